"""Scripts that the page gives out: run here, they make the picture that it shows."""

import ast
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import uneven_statistics
from helpers import build_seeded
from PIL import Image

from ldm_explorer.checkpoints import read_checkpoint, save_pipeline
from ldm_explorer.data import crop, to_uint8
from ldm_explorer.diagnosis.denoisers import EXACT_DENOISERS, denoiser_of
from ldm_explorer.diagnosis.faults import FAULTS
from ldm_explorer.diagnosis.statistics import write_statistics
from ldm_explorer.explore.denoising import denoise_images
from ldm_explorer.explore.export import (
    PACKAGE,
    YOUR_IMAGE,
    denoising_script,
    fault_script,
    reconstruction_script,
    short_path,
)
from ldm_explorer.explore.faults import Subject, run_sampling, set_up
from ldm_explorer.explore.images import ImageToExplore, example_image
from ldm_explorer.explore.reconstruction import reconstruct_image
from ldm_explorer.models import UNetConfig
from ldm_explorer.samplers import SAMPLERS, make_scheduler
from ldm_explorer.schedules import make_schedule

STOCK = {"torch", "diffusers", "PIL", "numpy"}
MAX_LINES = 40


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script in an empty folder, checks its size, and returns its variables; its files lie in the folder."""

    def run_script(script: str) -> dict:
        assert max(map(len, script.splitlines())) <= 100
        assert len(script.splitlines()) < MAX_LINES
        monkeypatch.chdir(tmp_path)
        variables: dict = {}
        with torch.no_grad():  # which also undoes what the script sets
            exec(compile(script, "script.py", "exec"), variables)
        return variables

    return run_script


def imports(script: str) -> set[str]:
    found = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(getattr(node, "module", None) or node.names[0].name).partition(".")[0] for node in found}


def files(folder, name: str) -> torch.Tensor:
    """`(N, C, H, W) uint8` of the PNGs that a script has left."""
    paths = sorted(folder.glob(f"{name}-*.png"), key=lambda path: int(path.stem.rpartition("-")[2]))
    arrays = np.stack([np.array(Image.open(path)) for path in paths])
    return torch.from_numpy(arrays if arrays.ndim == 4 else arrays[..., None]).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def ldm(ldm_folder):
    return read_checkpoint(ldm_folder)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_denoising_script_makes_the_pipeline_image_bit_for_bit(ldm, run, tmp_path, sampler, guidance_scale):
    options = {"sampler": sampler, "guidance_scale": guidance_scale}
    script = denoising_script(ldm, str(ldm.folder), "Dress", 5, 2, num_steps=6, **options)
    assert imports(script) <= STOCK
    variables = run(script)
    images = ldm.pipeline([3, 3], [5, 6], num_inference_steps=6, output_type="pt", **options).images
    assert torch.equal(variables["images"] / 2 + 0.5, crop(images, ldm.spec))
    assert torch.equal(files(tmp_path, "image"), crop(images * 255, ldm.spec).round().byte())
    assert ("no_label" in script) == (guidance_scale != 1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_script_has_as_many_steps_as_were_asked_for(ldm, sampler):
    """61 of 1000 are those at which diffusers' own arange gains one."""
    steps = {}
    for num_steps in (60, 61):
        script = denoising_script(ldm, "folder", "Bag", 0, sampler=sampler, num_steps=num_steps, guidance_scale=1)
        (said,) = re.findall(r"scheduler.set_timesteps\((.*?)\)", script)
        scheduler = SAMPLERS[sampler](ldm.pipeline.scheduler)
        scheduler.set_timesteps(eval(said))
        steps[num_steps] = len(scheduler.timesteps)
    assert steps == {60: 60, 61: 61}


def test_one_of_each_class_in_colour(color_folder, run, tmp_path):
    color = read_checkpoint(color_folder)
    arguments = (None, 3, 5)
    options = {"sampler": "ddim", "num_steps": 2, "guidance_scale": 1.0}
    run(denoising_script(color, str(color_folder), *arguments, **options))
    *_, last = denoise_images(color, *arguments, **options)
    assert torch.equal(files(tmp_path, "image"), last.predicted)


def test_a_network_without_classes_is_asked_without_labels(tiny_vae, tmp_path, run):
    unet = build_seeded(UNetConfig(8, 4, num_classes=0, widths=(16, 32), layers_per_block=1))
    folder = tmp_path / "fashion_mnist" / "unlabelled"
    save_pipeline(folder, tiny_vae, unet, make_scheduler(make_schedule("linear"), "epsilon"))
    checkpoint = read_checkpoint(folder)
    script = denoising_script(checkpoint, str(folder), None, 0, sampler="dpm++", num_steps=3, guidance_scale=1)
    *_, last = denoise_images(checkpoint, None, 0, sampler="dpm++", num_steps=3, guidance_scale=1)
    run(script)
    assert "labels" not in script
    assert torch.equal(files(tmp_path, "image"), last.predicted)
    with pytest.raises(ValueError, match="guidance needs class labels"):
        denoising_script(checkpoint, str(folder), None, 0, sampler="dpm++", num_steps=3, guidance_scale=2)


@pytest.mark.parametrize("denoiser", EXACT_DENOISERS)
def test_an_exact_denoiser_is_a_script_on_the_library(ldm_folder, run, tmp_path, denoiser):
    folder = tmp_path / "fashion_mnist" / "exact"
    shutil.copytree(ldm_folder, folder)
    write_statistics(folder, uneven_statistics())
    exact = read_checkpoint(folder)
    options = {"sampler": "unipc", "num_steps": 4, "guidance_scale": 1.0}
    script = denoising_script(exact, str(folder), "Trouser", 2, 2, **options, denoiser=denoiser)
    *_, last = denoise_images(exact, "Trouser", 2, 2, **options, denoiser=denoiser)
    run(script)
    assert torch.equal(files(tmp_path, "image"), last.predicted)
    assert type(denoiser_of(denoiser, exact)) is EXACT_DENOISERS[denoiser]


def test_what_sampling_refuses_no_script_is_made_of(ldm, vae_folder):
    options = {"sampler": "ddim", "num_steps": 2, "guidance_scale": 1.0}
    with pytest.raises(ValueError, match="is an autoencoder"):
        denoising_script(read_checkpoint(vae_folder), "folder", "Bag", 0, **options)
    with pytest.raises(ValueError, match="unknown class"):
        denoising_script(ldm, "folder", "Teapot", 0, **options)
    with pytest.raises(ValueError, match="unknown sampler"):
        denoising_script(ldm, "folder", "Bag", 0, **options | {"sampler": "nonsense"})
    with pytest.raises(ValueError, match="give 1 to 1000"):
        denoising_script(ldm, "folder", "Bag", 0, **options | {"num_steps": 0})


def test_a_reconstruction_script_makes_the_page_image_bit_for_bit(ldm, run, tmp_path):
    """It runs in a clone, which has the package and so the image."""
    (tmp_path / "ldm_explorer").symlink_to(PACKAGE)
    image = example_image(ldm, "Ankle boot", 1)
    script = reconstruction_script(ldm, str(ldm.folder), image)
    assert imports(script) <= STOCK
    variables = run(script)
    expected = reconstruct_image(ldm, image.pixels)
    assert torch.equal(variables["images"][0], expected.reconstruction)
    assert torch.equal(variables["latent"][0], expected.latents)
    assert torch.equal(files(tmp_path, "reconstruction")[0], to_uint8(expected.reconstruction))


def test_an_image_that_lies_with_its_checkpoint_is_found_there(color_folder, run, tmp_path):
    color = read_checkpoint(color_folder)
    image = example_image(color, "red", 2)
    run(reconstruction_script(color, str(color_folder), image))
    expected = reconstruct_image(color, image.pixels).reconstruction
    assert torch.equal(files(tmp_path, "reconstruction")[0], to_uint8(expected))


def test_an_upload_stands_for_itself(ldm):
    script = reconstruction_script(ldm, "folder", ImageToExplore(torch.zeros(1, 1, 32, 32), "Your image"))
    assert f"name = '{YOUR_IMAGE}'" in script


def test_a_fault_is_a_script_on_the_library(ldm, run, tmp_path, monkeypatch):
    monkeypatch.setattr("ldm_explorer.diagnosis.sampling.NUM_STEPS", 4)
    run(fault_script(ldm, str(ldm.folder), "clip_sample", 3))
    experiment = set_up(ldm, "clip_sample")
    subject = Subject.of(experiment.checkpoint, None, 3)
    for name in ("right", "broken"):
        *_, last = run_sampling(getattr(experiment, name), subject)
        assert torch.equal(files(tmp_path, name), last.predicted)
    with pytest.raises(ValueError, match="unknown fault"):
        fault_script(ldm, "folder", "nonsense", 0)


@pytest.mark.parametrize("folder", ['it\'s "here"\n# x', "Stoffe/Größe \u2028 \U0001f45f", "long/" * 60])
def test_what_a_folder_is_called_stays_text(ldm, folder):
    options = {"sampler": "ddim", "num_steps": 2, "guidance_scale": 1.0}
    image = example_image(ldm, "Bag", 0)
    scripts = [
        denoising_script(ldm, folder, "Bag", 0, **options),
        denoising_script(ldm, folder, "Bag", 0, **options, denoiser="Gaussian"),
        reconstruction_script(ldm, folder, image),
        fault_script(ldm, folder, next(iter(FAULTS)), 0),
    ]
    for script in scripts:
        assigned = (node for node in ast.parse(script).body if isinstance(node, ast.Assign))
        (value,) = (node.value for node in assigned if ast.unparse(node.targets[0]) == "folder")
        assert ast.literal_eval(value) == folder
        assert max(map(len, script.splitlines())) <= 100
        assert len(script.splitlines()) < MAX_LINES
        assert script.isascii()


def test_a_path_in_a_script_begins_with_the_folder_of_checkpoints(tmp_path):
    inside = tmp_path / "checkpoints" / "fashion_mnist" / "run"
    assert short_path(inside, [tmp_path / "other", tmp_path / "checkpoints"]) == "checkpoints/fashion_mnist/run"
    assert short_path(inside, [inside]) == "run"
    assert short_path(inside, []) == "fashion_mnist/run"
