"""transformers and peft load from the service and publish to it, told nothing but where the Hub is."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import Service

SCRIPT = """
import json, sys, torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModel

def told(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(10)[None]).last_hidden_state.double().sum().item()

def loaded(base, adapter):
    model = AutoModel.from_pretrained(base)
    return [told(model), told(PeftModel.from_pretrained(model, adapter))]

local, ours = loaded(*sys.argv[1:]), loaded("stock/base", "team/math")
fresh = AutoModel.from_pretrained("stock/base")
fresh.push_to_hub("pushed/base", private=True)
get_peft_model(fresh, LoraConfig(r=2, target_modules=["query"])).push_to_hub("pushed/adapter")
pushed = [told(AutoModel.from_pretrained("pushed/base")), AutoConfig.from_pretrained("pushed/base").model_type]
print(json.dumps({"local": local, "ours": ours, "pushed": pushed}))
"""


def test_libraries_load_and_publish_with_nothing_but_the_endpoint(
    service: Service, folders: dict[str, Path], tmp_path: Path
) -> None:
    surroundings = {"HF_ENDPOINT": str(service.http.base_url).rstrip("/"), "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT, str(folders["base"]), str(folders["math"])]
    variables = {**os.environ, **surroundings, "HF_TOKEN": "hf_anything"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["ours"] == told["local"]
    assert told["pushed"] == [told["local"][0], "bert"]
    assert service.http.get("/v1/repos/pushed/base").json()["private"] is True
    pushed = {file["path"] for file in service.http.get("/v1/repos/pushed/adapter/files").json()["files"]}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= pushed
