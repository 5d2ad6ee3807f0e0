"""What a folder holds is known by its classes: models of other programs are read wherever their parts lie, or named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch
from folder_edits import edit_json
from foreign_models import (
    rename_tensors,
    save_latents,
    save_pixels,
    save_transformer,
    small_transformer,
    small_unet,
    small_vae,
    write_index,
)
from helpers import same_weights

from ldm_explorer.checkpoints import load_pipeline, read_checkpoint
from ldm_explorer.files import CheckpointError
from ldm_explorer.model_folder import find_model
from ldm_explorer.network_files import WEIGHTS
from ldm_explorer.sources import open_source

DDPM = diffusers.DDPMScheduler


def averaged_alone(folder: Path) -> None:
    small_unet().save_pretrained(folder / "unet_ema")
    DDPM().save_pretrained(folder / "scheduler")


def as_the_first_models_lay(folder: Path) -> None:
    write_index(folder, unet="UNet2DModel", scheduler="DDPMScheduler")
    small_unet().save_pretrained(folder)
    DDPM().save_pretrained(folder)


def renamed(rename):
    def make(folder: Path) -> None:
        rename_tensors(save_pixels(folder) / "unet", rename)

    return make


READ = {
    "a pipeline of pixels": save_pixels,
    "a learned variance": lambda folder: save_pixels(folder, small_unet(out_channels=6)),
    "one level down": lambda folder: save_pixels(folder / "checkpoint-500"),
    "averaged weights alone": averaged_alone,
    "in the folder itself": as_the_first_models_lay,
    "compiled": renamed(lambda name: f"_orig_mod.{name}"),
    "compiled in part": renamed(lambda name: name.replace("resnets.", "resnets._orig_mod.")),
    "of several processes": renamed(lambda name: f"module.{name}"),
    "of several processes, compiled": renamed(lambda name: f"module._orig_mod.{name}"),
}


@pytest.mark.parametrize("name", READ)
def test_a_model_of_pixels_is_read_as_diffusers_saved_it(tmp_path, name):
    READ[name](tmp_path / "model")
    checkpoint = open_source(tmp_path / "model")
    assert (checkpoint.kind, checkpoint.name) == ("pixel", "model")
    wanted = small_unet(out_channels=6) if name == "a learned variance" else small_unet()
    assert same_weights(checkpoint.pipeline.unet.state_dict(), wanted.state_dict())
    assert checkpoint.denoiser.latent_shape == (3, 16, 16)
    assert (checkpoint.spec.channels, checkpoint.spec.side, checkpoint.spec.class_names) == (3, 16, ())


@pytest.mark.parametrize("options", [{}, {"variant": "fp16"}, {"variant": "fp16", "max_shard_size": "10KB"}])
def test_a_model_of_latents_is_read_whole_in_shards_and_as_a_variant(tmp_path, options):
    save_latents(tmp_path, **options)
    checkpoint = open_source(tmp_path)
    assert checkpoint.kind == "ldm"
    assert same_weights(checkpoint.vae.state_dict(), small_vae().state_dict())
    assert same_weights(checkpoint.pipeline.unet.state_dict(), small_unet(in_channels=4, out_channels=4).state_dict())


@pytest.mark.parametrize("place", [".", "final"])
def test_an_autoencoder_may_lie_alone(tmp_path, place):
    small_vae().save_pretrained(tmp_path / "model" / place)
    checkpoint = open_source(tmp_path / "model")
    assert (checkpoint.kind, checkpoint.model.latent_shape) == ("vae", (4, 16, 16))
    assert same_weights(checkpoint.vae.state_dict(), small_vae().state_dict())


def test_the_side_of_a_denoiser_is_that_of_its_images_whatever_its_autoencoder_was_trained_on(tmp_path):
    save_latents(tmp_path, vae=small_vae(sample_size=128))
    checkpoint = open_source(tmp_path)
    assert checkpoint.spec.side == checkpoint.vae.config.sample_size == 32
    assert checkpoint.pipeline(seeds=[0], num_inference_steps=1, output_type="pt").images.shape == (1, 3, 32, 32)


def conditional_unet(folder: Path) -> None:
    network = diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=4,
        layers_per_block=1,
    )
    network.save_pretrained(save_latents(folder) / "unet")


def another_network(part: str, class_name: str):
    def make(folder: Path) -> None:
        small_vae().save_pretrained(save_pixels(folder) / part)
        edit_json(folder / part / "config.json", _class_name=class_name)
        (folder / "model_index.json").unlink()

    return make


def another_transformer(class_name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        edit_json(save_transformer(folder) / "transformer" / "config.json", _class_name=class_name)

    return make


def transformer_with(**fields) -> Callable[[Path], None]:
    return lambda folder: edit_json(save_transformer(folder) / "transformer" / "config.json", **fields)


def both_networks(folder: Path) -> None:
    small_unet(in_channels=4, out_channels=4).save_pretrained(save_transformer(folder) / "unet")


def vq_in_an_index(folder: Path) -> None:
    write_index(save_pixels(folder), vqvae="VQModel", unet="UNet2DModel", scheduler="DDPMScheduler")


def text_encoder_in_an_index(folder: Path) -> None:
    write_index(save_latents(folder), vae="AutoencoderKL", unet="UNet2DModel", text_encoder="CLIPTextModel")


def pickled(folder: Path) -> None:
    path = save_pixels(folder) / "unet" / WEIGHTS
    path.rename(path.with_suffix(".bin"))


def several_variants(folder: Path) -> None:
    for variant in ("fp16", "bf16"):
        save_latents(folder, variant=variant)


def without_its_autoencoder(folder: Path) -> None:
    write_index(save_latents(folder), vae="AutoencoderKL", unet="UNet2DModel", scheduler="DDPMScheduler")
    shutil.rmtree(folder / "vae")


REFUSED = {
    "a VQ autoencoder": (vq_in_an_index, "vqvae holds a VQModel: what is read is an AutoencoderKL in vae/"),
    "the same without an index": (another_network("vqvae", "VQModel"), "vqvae holds a VQModel"),
    "another autoencoder": (another_network("vae", "AutoencoderTiny"), "vae holds an AutoencoderTiny"),
    "a conditional UNet": (conditional_unet, "unet holds a UNet2DConditionModel"),
    "a transformer of texts": (another_transformer("PixArtTransformer2DModel"), "holds a PixArtTransformer2DModel"),
    "a transformer of both": (another_transformer("SD3Transformer2DModel"), "holds a SD3Transformer2DModel"),
    "a transformer of another norm": (
        transformer_with(norm_type="ada_norm_single"),
        "transformer/config.json: norm_type is 'ada_norm_single', read are transformers with ada_norm_zero",
    ),
    "a transformer without classes": (transformer_with(num_embeds_ada_norm=None), "has no num_embeds_ada_norm"),
    "patches that leave a rim": (transformer_with(patch_size=3), "patches of side 3 do not divide a latent of side 16"),
    "a transformer alone": (
        lambda folder: small_transformer().save_pretrained(folder),
        "holds a DiTTransformer2DModel alone: give the folder above, with it in transformer/ beside scheduler/",
    ),
    "two denoisers": (both_networks, "holds unet/ and transformer/: leave one"),
    "a text encoder": (text_encoder_in_an_index, "text_encoder holds a CLIPTextModel"),
    "condition channels": (
        lambda folder: save_pixels(folder, small_unet(in_channels=6)),
        "it takes 6 channels and gives 3, so it is told of another image",
    ),
    "condition latents": (
        lambda folder: save_latents(folder, small_unet(in_channels=8, out_channels=4)),
        "it takes 8 channels and gives 4",
    ),
    "labels that are timesteps": (
        lambda folder: save_pixels(folder, small_unet(class_embed_type="timestep")),
        "class_embed_type is 'timestep', labels that are no classes",
    ),
    "labels that are embeddings": (
        lambda folder: save_pixels(folder, small_unet(class_embed_type="identity")),
        "class_embed_type is 'identity', labels that are no classes",
    ),
    "latents of another autoencoder": (
        lambda folder: save_latents(folder, small_unet()),
        "makes 4 latent channels, the denoiser takes 3: they were not trained together",
    ),
    "latents of nothing": (without_its_autoencoder, "is half-written: it has no vae/config.json"),
    "a UNet alone": (lambda folder: small_unet().save_pretrained(folder), "holds a UNet2DModel alone: give the folder"),
    "no scheduler": (
        lambda folder: small_unet().save_pretrained(folder / "unet"),
        "no scheduler/scheduler_config.json",
    ),
    "two of them": (
        lambda folder: (save_pixels(folder / "step-1"), save_pixels(folder / "step-2")),
        "holds models in step-1, step-2: give one of these folders",
    ),
    "none of them": (
        lambda folder: (folder / "logs").mkdir(parents=True),
        "holds no model: it has neither vae/config.json nor unet/config.json nor transformer/config.json, but logs",
    ),
    "pickles": (pickled, "holds pickled weights alone (diffusion_pytorch_model.bin)"),
    "two precisions": (several_variants, "several variants (diffusion_pytorch_model.bf16.safetensors, "),
    "keys of another wrapper": (renamed(lambda name: f"net.{name}"), "tensors do not fit it"),
}
"""How it is made, and what is said of it."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named_in_one_sentence(tmp_path, name):
    make, said = REFUSED[name]
    make(tmp_path / "model")
    with pytest.raises(CheckpointError) as refusal:
        _ = open_source(tmp_path / "model").pipeline
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_model_of_four_channels_of_pixels_is_found_but_not_shown(tmp_path):
    save_pixels(tmp_path / "model", small_unet(in_channels=4, out_channels=4))
    assert find_model(tmp_path / "model").network == "unet"
    with pytest.raises(
        CheckpointError, match=r"4 channels, and no vae/config.json is there to make pictures of latents"
    ):
        _ = open_source(tmp_path / "model").spec


def test_a_run_of_ours_stays_ours_without_its_mark(ldm_folder, tmp_path):
    """Its labels mean what they did, and nothing of it is looked for one level down."""
    folder = shutil.copytree(ldm_folder, tmp_path / "run")
    shutil.rmtree(folder / ".ldm-explorer")
    assert find_model(folder).is_ours
    assert read_checkpoint(folder).denoiser.null_class == 10
    (folder / "model_index.json").unlink()
    assert not find_model(folder).is_ours


def test_of_weights_and_their_average_the_weights_are_read(tmp_path):
    shutil.copytree(save_pixels(tmp_path) / "unet", tmp_path / "unet_ema")
    rename_tensors(tmp_path / "unet_ema", lambda name: f"spoilt.{name}")
    assert same_weights(open_source(tmp_path).pipeline.unet.state_dict(), small_unet().state_dict())


def test_a_transformer_of_others_opens_with_its_classes_and_without_its_variance(tmp_path):
    checkpoint = open_source(save_transformer(tmp_path / "model"))
    denoiser, network = checkpoint.denoiser, small_transformer()
    assert (denoiser.num_classes, denoiser.null_class, denoiser.latent_shape) == (5, 5, (4, 16, 16))
    assert checkpoint.spec.class_names == ("0", "1", "2", "3", "4")
    z_t = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    told, labels = torch.full((2,), 300), torch.tensor([4, 5])
    assert torch.equal(denoiser.predict(z_t, 300, labels), network(z_t, told, labels).sample[:, :4])
    assert torch.equal(denoiser.predict(z_t, 300), network(z_t, told, torch.full((2,), 5)).sample[:, :4])
    assert checkpoint.pipeline([2], [0], num_inference_steps=2, guidance_scale=2.0, output_type="pt").images.std() > 0
    assert same_weights(load_pipeline(tmp_path / "model").transformer.state_dict(), network.state_dict())
