"""Tiny models as other programs leave them: folders that diffusers alone wrote, with weights that nobody trained."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    SchedulerMixin,
    UNet2DModel,
)
from safetensors.torch import load_file, save_file

from ldm_explorer.network_files import WEIGHTS

SIDE = 16


def small_unet(**options) -> UNet2DModel:
    """Of 16 x 16 colour pixels, without labels."""
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "layers_per_block": 1}
    shape = {"sample_size": SIDE, "block_out_channels": (8, 16), "norm_num_groups": 4, "attention_head_dim": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DModel(**(blocks | shape | options)).eval()


def small_vae(**options) -> AutoencoderKL:
    """Of 32 x 32 colour images, with latents 4 x 16 x 16 and diffusers' default scaling_factor."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    shape = {"block_out_channels": (8, 8), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 2 * SIDE}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderKL(**(blocks | shape | options)).eval()


def small_transformer(**options) -> DiTTransformer2DModel:
    """Of latents 4 x 16 x 16 and five classes, with a learned variance, as the first models of its kind."""
    heads = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "patch_size": 4}
    shape = {"sample_size": SIDE, "in_channels": 4, "out_channels": 8, "num_embeds_ada_norm": 5}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DiTTransformer2DModel(**(heads | shape | options)).eval()


def save_transformer(folder: Path, **options) -> Path:
    """What diffusers' own pipeline of class-conditional transformers saves."""
    scheduler = DDIMScheduler(clip_sample=False)
    DiTPipeline(small_transformer(**options), small_vae(), scheduler, {0: "green"}).save_pretrained(folder)
    return folder


def save_pixels(folder: Path, unet: UNet2DModel | None = None, scheduler: SchedulerMixin | None = None) -> Path:
    """What the example script for unconditional images leaves."""
    DDPMPipeline(unet or small_unet(), scheduler or DDPMScheduler()).save_pretrained(folder)
    return folder


def save_latents(folder: Path, unet: UNet2DModel | None = None, vae: AutoencoderKL | None = None, **options) -> Path:
    """Three parts that somebody saved one by one."""
    (unet or small_unet(in_channels=4, out_channels=4)).save_pretrained(folder / "unet", **options)
    (vae or small_vae()).save_pretrained(folder / "vae", **options)
    DDPMScheduler(clip_sample=False).save_pretrained(folder / "scheduler")
    return folder


def rename_tensors(part: Path, rename: Callable[[str], str]) -> None:
    """Give the tensors of a network other names."""
    path = part / WEIGHTS
    save_file({rename(name): tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})


def write_index(folder: Path, **parts: str) -> None:
    """A model_index.json that lists diffusers' classes."""
    listed = {name: ["diffusers", class_name] for name, class_name in parts.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "SomePipeline"} | listed))
