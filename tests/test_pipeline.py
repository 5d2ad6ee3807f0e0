import copy
import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DModel, UniPCMultistepScheduler
from helpers import build_seeded

from ldm_explorer.checkpoints import load_pipeline
from ldm_explorer.data import to_model
from ldm_explorer.models import UNetConfig, VAEConfig
from ldm_explorer.pipeline import LatentDiffusionPipeline, to_pil
from ldm_explorer.samplers import SAMPLERS, make_scheduler
from ldm_explorer.schedules import make_schedule

LABELS, SEEDS = [3, 7, 10], [0, 1, 2]


@torch.no_grad()
def test_stock_diffusers_makes_the_same_image_bit_for_bit(ldm_folder):
    """A checkpoint folder needs none of this project's code: this is all there is to sampling from it."""
    vae = AutoencoderKL.from_pretrained(ldm_folder, subfolder="vae").eval()
    unet = UNet2DModel.from_pretrained(ldm_folder, subfolder="unet").eval()
    trained_with = DDPMScheduler.from_pretrained(ldm_folder, subfolder="scheduler")
    scheduler = UniPCMultistepScheduler.from_config(trained_with.config)
    config = json.loads((ldm_folder / "vae" / "config.json").read_text())
    mean = torch.tensor(config["latents_mean"]).view(1, -1, 1, 1)
    std = torch.tensor(config["latents_std"]).view(1, -1, 1, 1)

    noise = [torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    latents = torch.stack(noise)
    labels = torch.tensor(LABELS)  # 0 to 9; 10 means "no label"
    scheduler.set_timesteps(10)
    for timestep in scheduler.timesteps:
        prediction = unet(latents, timestep, class_labels=labels).sample
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    images = vae.decode(latents * std + mean).sample.clamp(-1, 1)

    ours = load_pipeline(ldm_folder)(LABELS, SEEDS, num_inference_steps=10, output_type="pt").images
    assert torch.equal(ours, images / 2 + 0.5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_saved_and_loaded_pipeline_makes_the_same_image(tiny_pipeline, ldm_folder, sampler):
    options = {"num_inference_steps": 4, "guidance_scale": 2.0, "sampler": sampler, "output_type": "pt"}
    images = tiny_pipeline(LABELS, SEEDS, **options).images
    assert images.shape == (3, 1, 32, 32)
    assert torch.equal(load_pipeline(ldm_folder)(LABELS, SEEDS, **options).images, images)


def test_the_folder_loads_by_diffusers_own_from_pretrained(tiny_pipeline, ldm_folder):
    loaded = LatentDiffusionPipeline.from_pretrained(ldm_folder)
    loaded.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "output_type": "pt"}
    assert torch.equal(loaded(LABELS, SEEDS, **options).images, tiny_pipeline(LABELS, SEEDS, **options).images)


def test_saving_by_diffusers_own_save_pretrained_makes_a_folder_we_load(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    options = {"num_inference_steps": 4, "output_type": "pt"}
    ours = tiny_pipeline(LABELS, SEEDS, **options).images
    assert torch.equal(load_pipeline(tmp_path)(LABELS, SEEDS, **options).images, ours)


def test_calling_the_pipeline_decodes_what_denoise_ends_with(tiny_pipeline):
    *_, last = tiny_pipeline.denoise(LABELS, SEEDS, num_inference_steps=4)
    decoded = tiny_pipeline.codec.decode(last.z_next).clamp(-1, 1) / 2 + 0.5
    assert torch.equal(tiny_pipeline(LABELS, SEEDS, num_inference_steps=4, output_type="pt").images, decoded)


def test_a_run_leaves_no_trace_in_the_next(tiny_pipeline):
    first = tiny_pipeline(LABELS, SEEDS, num_inference_steps=4, output_type="pt").images
    tiny_pipeline([1], [9], num_inference_steps=7)
    assert torch.equal(tiny_pipeline(LABELS, SEEDS, num_inference_steps=4, output_type="pt").images, first)


def test_no_labels_means_the_null_class(tiny_pipeline):
    options = {"num_inference_steps": 4, "output_type": "pt"}
    unlabelled = tiny_pipeline(None, SEEDS, **options).images
    assert torch.equal(unlabelled, tiny_pipeline([10, 10, 10], SEEDS, **options).images)
    assert not torch.equal(unlabelled, tiny_pipeline([0, 0, 0], SEEDS, **options).images)


def test_pil_images_are_the_tensors_rounded(tiny_pipeline):
    pixels = tiny_pipeline(LABELS, SEEDS, num_inference_steps=4, output_type="pt").images
    pictures = tiny_pipeline(LABELS, SEEDS, num_inference_steps=4).images
    assert [picture.size for picture in pictures] == [(32, 32)] * 3
    for picture, image in zip(pictures, (pixels * 255).round().byte(), strict=True):
        assert np.array_equal(np.array(picture), image[0].numpy())


def test_all_256_grey_levels_survive_the_way_to_pil():
    greys = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert np.array_equal(np.array(to_pil(to_model(greys))[0]), greys[0, 0].numpy())


@pytest.mark.parametrize(
    ("labels", "said"), [([1, 2], "2 class labels for 3 images"), ([0, 11, 1], "11"), ([0, 1, -1], "-1")]
)
def test_labels_that_the_network_does_not_know_are_refused(tiny_pipeline, labels, said):
    with pytest.raises(ValueError, match=said):
        tiny_pipeline(labels, SEEDS)
    with pytest.raises(ValueError, match=said):
        tiny_pipeline.denoise(labels, SEEDS)


def test_an_unconditional_network_samples_without_labels_and_refuses_them(tiny_vae):
    unet = build_seeded(UNetConfig(8, 4, num_classes=0, widths=(16, 32), layers_per_block=1))
    pipeline = LatentDiffusionPipeline(tiny_vae, unet, make_scheduler(make_schedule("cosine"), "v_prediction"))
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.null_class is None
    assert pipeline(None, SEEDS, num_inference_steps=2, output_type="pt").images.isfinite().all()
    with pytest.raises(ValueError, match="without class labels"):
        pipeline([0, 0, 0], SEEDS)
    with pytest.raises(ValueError, match="guidance needs class labels"):
        pipeline(None, SEEDS, guidance_scale=2.0)


@pytest.mark.parametrize(("latent_size", "latent_channels"), [(8, 3), (16, 4)], ids=["channels", "side"])
def test_networks_of_different_latents_are_refused(tiny_unet, latent_size, latent_channels):
    vae = build_seeded(VAEConfig(latent_size=latent_size, latent_channels=latent_channels, widths=(16,)))
    vae.register_to_config(latents_mean=[0.0] * latent_channels, latents_std=[1.0] * latent_channels)
    with pytest.raises(ValueError, match="the denoiser takes latents"):
        LatentDiffusionPipeline(vae, tiny_unet, make_scheduler(make_schedule("cosine"), "v_prediction"))


def test_a_side_written_as_a_pair_is_the_same_latent(tiny_vae, tiny_unet):
    unet = copy.deepcopy(tiny_unet)
    unet.register_to_config(sample_size=[8, 8])
    pipeline = LatentDiffusionPipeline(tiny_vae, unet, make_scheduler(make_schedule("cosine"), "v_prediction"))
    assert pipeline.latent_shape == (4, 8, 8)


def test_an_autoencoder_without_statistics_is_refused(tiny_vae, tiny_unet):
    vae = copy.deepcopy(tiny_vae)
    vae.register_to_config(latents_mean=None)
    with pytest.raises(ValueError, match="latents_mean"):
        LatentDiffusionPipeline(vae, tiny_unet, make_scheduler(make_schedule("cosine"), "v_prediction"))
