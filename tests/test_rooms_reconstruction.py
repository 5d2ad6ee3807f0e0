"""The room of reconstruction: its pictures and figures are the autoencoder's own, for A alone and beside B."""

import re

import pytest
import torch
from diffusers import AutoencoderKL

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.data import to_model, to_uint8
from ldm_explorer.evaluation.reconstruction import psnr_db
from ldm_explorer.explore.autoencoder import STABLE_DIFFUSION_FACTOR, decode_noise, latent_scales
from ldm_explorer.explore.images import example_image
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import reconstruct_image
from ldm_explorer.latents import decode_images
from ldm_explorer.samplers import draw_noise
from ldm_explorer.ui import latent_scale, pure_noise
from ldm_explorer.ui.answers import answers, size_of
from ldm_explorer.ui.pictures import difference_map, error_map, png_data_uri
from ldm_explorer.ui.pure_noise import NUM_NOISES
from ldm_explorer.ui.results import Results
from ldm_explorer.ui.rooms import reconstruction
from ldm_explorer.ui.rooms.reconstruction import ReconstructionSettings
from ldm_explorer.ui.server.turns import Job
from ldm_explorer.ui.settings import OfCheckpoint


def show(library: Library, beside: str | None = None, **other) -> dict:
    chosen = {"checkpoint": "tiny-ldm", "class_name": "Ankle boot"} | other
    other_side = ReconstructionSettings(**chosen | {"checkpoint": beside}) if beside else None
    ((shown,),) = reconstruction.answer(library, ReconstructionSettings(**chosen), other_side)
    return shown


def test_image_reconstruction_error_and_latent_are_shown_with_their_figures(library):
    shown = show(library, number=3)
    checkpoint = library.get("tiny-ldm")
    result = reconstruct_image(checkpoint, example_image(checkpoint, "Ankle boot", 2).pixels)
    ((image, again, error, latent),) = shown["frames"][0]["sides"]
    assert image["src"] == png_data_uri(to_uint8(result.image))
    assert again["src"] == png_data_uri(to_uint8(result.reconstruction))
    assert error["src"] == png_data_uri(error_map(result.error))
    assert latent["slot"] == "latent"
    (side,) = shown["sides"]
    assert side["title"] == "tiny-ldm: 8x8x4"
    assert ("latent", "8x8x4 = 256 values, 3.1 times fewer than pixels") in side["facts"]
    assert ("PSNR", f"{result.psnr_db:.1f} dB") in side["facts"]
    assert ("SSIM", f"{result.ssim:.3f}, 1 is perfect") in side["facts"]


def test_b_stands_beside_a_with_the_difference(library, monkeypatch):
    half = {"tiny-vae": 0.5, "tiny-ldm": 1.0}
    inner = reconstruct_image

    def differing(checkpoint, pixels):
        result = inner(checkpoint, pixels)
        object.__setattr__(result, "reconstruction", result.reconstruction * half[checkpoint.name])
        return result

    monkeypatch.setattr(reconstruction, "reconstruct_image", differing)
    shown = show(library, "tiny-vae")
    a, b = (side[1]["src"] for side in shown["frames"][0]["sides"][:2])
    assert a != b
    pixels = example_image(library.get("tiny-ldm"), "Ankle boot", 0).pixels
    first, second = (to_uint8(differing(library.get(name), pixels).reconstruction) for name in ("tiny-ldm", "tiny-vae"))
    (difference,) = shown["frames"][0]["sides"][2]
    assert difference["src"] == png_data_uri(difference_map(first, second))
    db = float(psnr_db(to_model(first[None]), to_model(second[None])))
    assert shown["sides"][2]["facts"] == [("B to A", f"PSNR {db:.1f} dB")]
    assert [side["title"] for side in shown["sides"]] == ["A · tiny-ldm: 8x8x4", "B · tiny-vae: 8x8x4", "Difference"]


def test_the_same_autoencoder_is_identical(library):
    assert show(library, "tiny-ldm")["sides"][2]["facts"] == [("B to A", "identical")]


def test_images_in_colour_are_shown_in_colour(mixed_library):
    shown = show(mixed_library, checkpoint="tiny-color", class_name="red")
    assert ("latent", "8x8x2 = 128 values, 6.0 times fewer than pixels") in shown["sides"][0]["facts"]
    assert shown["frames"][0]["label"] == "red, test image 1"


def test_a_checkpoint_over_other_images_is_not_compared(mixed_library):
    shown = show(mixed_library, "tiny-color")
    assert len(shown["sides"]) == 1
    assert "tiny-color was trained on other images" in shown["sentence"]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("checkpoint=nothing&class_name=Bag", "choose one of"),
        ("checkpoint=tiny-ldm&class_name=Teapot", "unknown class 'Teapot'"),
        ("checkpoint=tiny-ldm&class_name=Bag&number=99", "there are 10"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(library, question, said):
    with pytest.raises(ValueError, match=said):
        list(answers(reconstruction, library, Results(size_of), question, Job()))


def test_the_script_is_that_of_the_image(library):
    chosen = ReconstructionSettings(checkpoint="tiny-ldm", class_name="Bag", number=2)
    script = reconstruction.script(library, chosen)
    assert "ldm_explorer/images/fashion_mnist/8/" in script
    assert "import AutoencoderKL" in script


def test_pure_noise_is_what_sampling_starts_from(library):
    checkpoint = library.get("tiny-vae")
    ((shown,),) = pure_noise.answer(library, OfCheckpoint(checkpoint="tiny-vae"), None)
    noise, _ = draw_noise((4, 8, 8), range(NUM_NOISES))
    expected = decode_images(checkpoint.codec, noise, checkpoint.spec)
    assert torch.equal(decode_noise(checkpoint, range(NUM_NOISES)), expected)
    assert [source in shown for source in map(png_data_uri, expected)] == [True] * NUM_NOISES


def test_every_channel_has_its_own_scale(library, vae_folder):
    config = read_checkpoint(vae_folder).vae.config
    scales = latent_scales(library.get("tiny-vae"))
    assert [scale.mean for scale in scales] == pytest.approx(config.latents_mean)
    assert [scale.std for scale in scales] == pytest.approx(config.latents_std)
    ((table,),) = latent_scale.answer(library, OfCheckpoint(checkpoint="tiny-vae"), None)
    cells = re.findall("<td>(.*?)</td>", table)
    assert cells[3::4] == [f"{1 / std:.3f}" for std in config.latents_std]


def test_stable_diffusion_multiplies_by_one_over_its_standard_deviation():
    assert AutoencoderKL().config.scaling_factor == STABLE_DIFFUSION_FACTOR, "what diffusers has for it"
    assert f"1 / {1 / STABLE_DIFFUSION_FACTOR:.2f}" in latent_scale.WHAT_TO_LOOK_AT
