"""diffusers reads a LoRA from the service: an adapter of a tiny UNet, published and loaded by repo id."""

import os
import tempfile

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers
from huggingface_hub import HfApi
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

NAME = "team/diffusers-lora"
SIZES = {"block_out_channels": (8, 16), "layers_per_block": 1, "sample_size": 8, "cross_attention_dim": 8}
BLOCKS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**SIZES, **BLOCKS, norm_num_groups=2, attention_head_dim=2).eval()


def answer(model: UNet2DConditionModel) -> torch.Tensor:
    torch.manual_seed(1)
    sample, states = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 8)
    with torch.no_grad():
        return model(sample, 1, encoder_hidden_states=states).sample


def adapted() -> UNet2DConditionModel:
    model = unet()
    model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    return model


def publish(model: UNet2DConditionModel) -> None:
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    api = HfApi(token=os.environ["OWNER"])
    api.create_repo(NAME, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        StableDiffusionLoraLoaderMixin.save_lora_weights(folder, unet_lora_layers=layers)
        api.upload_folder(repo_id=NAME, folder_path=folder)


def main() -> None:
    model = adapted()
    publish(model)
    state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(NAME)
    loaded = unet()
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(state, alphas, loaded)
    assert not torch.equal(answer(loaded), answer(unet()))
    torch.testing.assert_close(answer(loaded), answer(model))
    published = unet()
    with tempfile.TemporaryDirectory() as folder:
        published.save_pretrained(folder)
        HfApi(token=os.environ["OWNER"]).create_repo("team/unet", exist_ok=True)
        HfApi(token=os.environ["OWNER"]).upload_folder(repo_id="team/unet", folder_path=folder)
    torch.testing.assert_close(answer(UNet2DConditionModel.from_pretrained("team/unet").eval()), answer(published))


if __name__ == "__main__":
    main()
