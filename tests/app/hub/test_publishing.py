"""What people publish with the tools they have becomes bases and deltas, or is kept and never used."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import HfApi
from safetensors.numpy import save

from app.jobs.perform import do, take
from app.store.records import DeltaRecord
from tests.app.api.conftest import Pot, checkpoint
from tests.app.hub.conftest import BY_LFS, Hub, held

pytestmark = BY_LFS

PUSH = """
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
shape = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=32)
LlamaForCausalLM(LlamaConfig(**shape)).push_to_hub("team/tiny")
base = LlamaForCausalLM.from_pretrained("team/tiny")
tuned = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
tuned.push_to_hub("team/tiny-lora")
tokens = torch.arange(8)[None]
with torch.no_grad():
    expected = tuned.eval()(tokens).logits
    again = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained("team/tiny"), "team/tiny-lora").eval()
    assert torch.equal(again(tokens).logits, expected)
"""


def surroundings(pot: Pot, home: Path, secret: str) -> dict[str, str]:
    ours = {"HF_ENDPOINT": pot.url, "HF_HOME": str(home), "HF_TOKEN": secret, "HF_HUB_DISABLE_XET": "1"}
    return {**os.environ, **ours, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def run(command: list[str], pot: Pot, home: Path) -> str:
    secret = pot.token("write", namespaces=("team",))
    done = subprocess.run(command, env=surroundings(pot, home, secret), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def looked_at(pot: Pot, name: str) -> DeltaRecord:
    """What the job finds in the newest commit."""
    inside = pot.inside
    repo = inside.store.require_repo(name)
    job = inside.jobs.submit_ingest(repo, inside.store.head(repo))
    work = take(inside.settings, inside.store, job.id)
    assert work is not None
    do(work)
    found = inside.store.delta_of(repo, inside.store.head(repo).id)
    assert found is not None
    return found


def planned(pot: Pot, source: str) -> Any:
    recipe = {"method": {"name": "linear"}, "ingredients": [{"source": source, "weight": 1.0}]}
    with pot.client(pot.token("read")) as caller:
        return caller.post("/v1/plan", json=recipe)


def test_a_pushed_model_is_a_base_and_a_pushed_adapter_a_delta_on_it(pot: Pot, tmp_path: Path) -> None:
    run([sys.executable, "-W", "ignore", "-c", PUSH], pot, tmp_path)
    base, adapter = looked_at(pot, "team/tiny"), looked_at(pot, "team/tiny-lora")
    assert (base.kind, base.state) == ("base", "ok")
    assert (adapter.kind, adapter.state, adapter.base) == ("delta", "ok", "team/tiny")
    assert adapter.base_commit == base.commit


def test_the_command_uploads_a_folder_and_then_nothing(pot: Pot, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.safetensors").write_bytes(checkpoint(0))
    (tmp_path / "folder" / "notes.txt").write_text("text")
    command = [str(Path(sys.executable).with_name("hf")), "upload", "team/cli", str(tmp_path / "folder"), "."]
    first = run(command, pot, tmp_path / "home")
    head = pot.inside.store.require_repo("team/cli").head
    assert f"{pot.url}/team/cli/commit/{head}" in first
    assert run(command, pot, tmp_path / "home")
    assert pot.inside.store.require_repo("team/cli").head == head
    run([*command, "--revision", "v2", "--exclude", "*.txt"], pot, tmp_path / "home")
    assert set(held(pot, "team/cli", "v2")) == {"model.safetensors", "notes.txt"}


def test_the_base_that_only_the_card_names_is_the_base(pot: Pot, hub: Hub) -> None:
    api = hub()
    weights = {"model.layers.0.self_attn.q_proj.weight": np.ones((8, 8), np.float32)}
    publish(api, "org/base", {"model.safetensors": save(weights, {"format": "pt"}), "config.json": b"{}"})
    assert looked_at(pot, "org/base").kind == "base"
    low_rank = {"lora_A": np.ones((2, 8), np.float32), "lora_B": np.ones((8, 2), np.float32)}
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    adapter = save({f"{prefix}.{name}.weight": value for name, value in low_rank.items()})
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    card = b"---\nbase_model: org/base\n---\nTuned."
    files = {
        "adapter_model.safetensors": adapter,
        "adapter_config.json": json.dumps(config).encode(),
        "README.md": card,
    }
    publish(api, "team/lora", files)
    found = looked_at(pot, "team/lora")
    assert (found.kind, found.state, found.base, found.base_repo) == ("delta", "ok", "org/base", "org/base")


class Harm:
    def __reduce__(self) -> Any:
        return os.system, ("touch harm-was-done",)


UNUSABLE = {
    "a truncated checkpoint": ("model.safetensors", checkpoint(0)[:-7]),
    "a value that is not finite": ("model.safetensors", save({"a.weight": np.full((4, 4), np.nan, np.float32)})),
    "a pickle that runs code": ("pytorch_model.bin", pickle.dumps(Harm())),
    "a configuration that is none": ("config.json", b"[1, 2"),
}


@pytest.mark.parametrize(("path", "content"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_is_broken_or_unsafe_is_kept_with_the_reason_and_never_used(
    pot: Pot, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    publish(hub(), "team/broken", {path: content, "README.md": b"---\nlicense: mit\n---\n"})
    assert held(pot, "team/broken")[path] == content
    found = looked_at(pot, "team/broken")
    assert found.kind == "files"
    assert found.reason
    refused = planned(pot, "team/broken")
    assert refused.status_code == 422, refused.text
    assert path in found.reason or path in refused.text
    assert not (tmp_path / "harm-was-done").exists()


def publish(api: HfApi, name: str, files: dict[str, bytes]) -> None:
    """By the Hub's protocol, one file at a time."""
    api.create_repo(name)
    for path, content in files.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=name)
