"""Whoever calls a measure with what it is no measure of gets one sentence, and no number."""

import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from helpers import draw_shapes

from ldm_explorer.data import dataset_spec, to_model, to_uint8
from ldm_explorer.evaluation.continuity import (
    images_at_side,
    measure_half_scale,
    measure_spectrum,
    nearest_neighbours,
    turn_error,
)
from ldm_explorer.evaluation.copying import measure_copying, nearest_distance
from ldm_explorer.evaluation.features import FeatureNet, extract_features, feature_fd_percent, predict_classes
from ldm_explorer.evaluation.generation import generate
from ldm_explorer.evaluation.latent_space import measure_latent_use, raw_posteriors
from ldm_explorer.evaluation.reconstruction import PCA, psnr_db, ssim
from ldm_explorer.evaluation.variety import measure_variety
from ldm_explorer.latents import LatentCodec, Posterior
from ldm_explorer.samplers import denoise, draw_noise

SPEC = dataset_spec("fashion_mnist")
BYTES = draw_shapes(8, seed=0).images
PIXELS = to_model(BYTES)
FEATURES, LATENTS = torch.randn(80, 64, generator=torch.Generator().manual_seed(0)), torch.ones(8, 4, 8, 8)
NETWORK = FeatureNet(1, 10, widths=(8, 16)).eval()
WRONG_PIXELS = {
    "bytes": (BYTES, "uint8 of shape"),
    "from 0 to 255": (BYTES.float(), "values from 0 to"),
    "NaN": (PIXELS * torch.nan, "values from nan"),
    "one image": (PIXELS[0], r"shape \(1, 32, 32\)"),
    "no tensor": (PIXELS.numpy(), "the images are "),
    "none": (PIXELS[:0], r"shape \(0, 1"),
}
WRONG_FEATURES = {
    "whole numbers": (FEATURES.long(), "int64 of shape"),
    "NaN": (FEATURES * torch.nan, "not all finite"),
    "of one image": (FEATURES[0], r"shape \(64,\)"),
}


@pytest.mark.parametrize("name", WRONG_PIXELS)
@pytest.mark.parametrize("measure", [psnr_db, ssim])
def test_pixels_are_floats_from_minus_1_to_1(measure, name):
    wrong, said = WRONG_PIXELS[name]
    for pair in ((wrong, PIXELS), (PIXELS, wrong), (wrong, wrong)):
        with pytest.raises(ValueError, match=said) as refused:
            measure(*pair)
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=said):
        PCA.fit(wrong)


def test_images_that_are_compared_are_of_one_shape():
    for measure in (psnr_db, ssim):
        with pytest.raises(ValueError, match=r"of the shapes \(8, 1, 32, 32\), \(1, 1, 32, 32\): give one"):
            measure(PIXELS, PIXELS[:1])
    fitted = PCA.fit(PIXELS[..., :8, :8])
    with pytest.raises(ValueError, match=r"shape \(8, 1, 32, 32\), and were of 64 values"):
        fitted.reconstruct(PIXELS, 4)


@pytest.mark.parametrize("name", WRONG_FEATURES)
def test_features_are_rows_of_finite_floats(name):
    wrong, said = WRONG_FEATURES[name]
    for call in (
        lambda: feature_fd_percent(wrong, FEATURES),
        lambda: feature_fd_percent(FEATURES, wrong),
        lambda: measure_variety(wrong, FEATURES),
        lambda: measure_variety(FEATURES, wrong),
        lambda: predict_classes(NETWORK, wrong),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    with pytest.raises(ValueError, match=r"of the shapes \(1, 32\), \(1, 64\)"):
        measure_variety(FEATURES[:, :32], FEATURES)


def test_images_are_bytes_where_bytes_are_asked_for(tiny_vae):
    codec = LatentCodec(tiny_vae)
    for images in (PIXELS, BYTES.int()):
        for call in (
            lambda images=images: to_model(images),
            lambda images=images: extract_features(NETWORK, images),
            lambda images=images: images_at_side(images, 8),
            lambda images=images: raw_posteriors(codec, images),
            lambda images=images: turn_error(codec, images, torch.randn(8, 4, 8, 8)),
            lambda images=images: measure_half_scale(codec, images, LATENTS, SPEC),
            lambda images=images: nearest_distance(images, BYTES),
            lambda images=images: nearest_distance(BYTES, images),
        ):
            with pytest.raises(ValueError, match=r"the images are (float|int)32.*: give "):
                call()
    with pytest.raises(ValueError, match="the pixels are uint8: give floats from -1 to 1"):
        to_uint8(BYTES)
    with pytest.raises(ValueError, match=r"uint8 of shape \(8, 1, 28, 28\)"):
        nearest_distance(BYTES[..., :28, :28], BYTES)


def test_latents_distances_and_posteriors_are_what_is_measured(tiny_vae):
    codec = LatentCodec(tiny_vae)
    for call in (
        lambda: nearest_neighbours(LATENTS[0]),
        lambda: nearest_neighbours(LATENTS * torch.nan),
        lambda: measure_spectrum(BYTES),
        lambda: measure_spectrum(LATENTS[0]),
        lambda: turn_error(codec, BYTES[:4], LATENTS),
        lambda: measure_half_scale(codec, BYTES[:4], LATENTS, SPEC),
        lambda: measure_copying(torch.ones(3, 2), torch.ones(3)),
        lambda: measure_copying(torch.ones(3), torch.ones(3) * torch.nan),
        lambda: measure_latent_use(Posterior(LATENTS, -LATENTS)),
        lambda: measure_latent_use(Posterior(LATENTS, LATENTS.log() * torch.nan)),
    ):
        with pytest.raises(ValueError, match=": give "):
            call()


@pytest.mark.parametrize("scheduler", [FlowMatchEulerDiscreteScheduler(), EDMEulerScheduler()])
def test_a_sampler_along_another_path_is_refused_by_name(tiny_pipeline, scheduler):
    noise, _ = draw_noise((4, 8, 8), [0])
    with pytest.raises(TypeError, match=f"{type(scheduler).__name__} is no sampler along betas"):
        next(denoise(tiny_pipeline.denoiser, scheduler, noise, num_steps=2))
    with pytest.raises(ValueError, match=r"unknown sampler .*: choose one of") as refused:
        generate(tiny_pipeline, SPEC, 2, 0, num_steps=2, sampler=scheduler)
    assert "\n" not in str(refused.value)


def test_samples_are_of_a_pipeline_and_a_number(tiny_pipeline):
    with pytest.raises(TypeError, match="is no LatentDiffusionPipeline: give the pipeline of a checkpoint"):
        generate(tiny_pipeline.unet, SPEC, 2, 0, num_steps=2, sampler="unipc")
    for count in (0, 2.5):
        with pytest.raises(ValueError, match="images: give a whole number above 0"):
            generate(tiny_pipeline, SPEC, count, 0, num_steps=2, sampler="unipc")
