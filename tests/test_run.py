"""A training from Python: a generator of steps into a folder of its own, without a command line."""

from pathlib import Path

import pytest
from helpers import draw_shapes, same_weights
from torchvision.transforms.functional import to_pil_image

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.run_folder import FolderRefused
from ldm_explorer.training import latest_state, train
from ldm_explorer.training.tasks.autoencoder import AutoencoderTraining, VAETrainConfig
from ldm_explorer.training.tasks.denoiser import DenoiserTraining, LDMTrainConfig

pytestmark = pytest.mark.usefixtures("fresh_accelerate")

SHORT = {"max_steps": 4, "batch_size": 4, "threads": 1, "precision": "fp32", "image_side": 32, "layers_per_block": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("run") / "shapes"
    folder.mkdir()
    for number, image in enumerate(draw_shapes(80, seed=0).images):
        to_pil_image(image).save(folder / f"{number}.png")
    return f"folder:{folder}"


@pytest.fixture
def training(dataset, vae_folder):
    """A training of either network into a folder."""

    def of(name: str, out: Path, **options) -> AutoencoderTraining | DenoiserTraining:
        common = {"dataset": dataset, "out": out} | SHORT | options
        if name == "vae":
            return AutoencoderTraining(VAETrainConfig(widths=(16,), **common))
        return DenoiserTraining(LDMTrainConfig(widths=(16, 32), vae=vae_folder, **common))

    return of


@pytest.mark.parametrize("name", ["vae", "ldm"])
def test_a_training_is_a_generator_of_steps_that_leaves_a_checkpoint(training, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr("sys.argv", ["notebook"])
    steps = list(train(training(name, tmp_path / "run", log_every_steps=1)))
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert all(step.record["loss"] > 0 for step in steps)
    checkpoint = read_checkpoint(tmp_path / "run")
    assert checkpoint.kind == name
    assert [record["step"] for record in checkpoint.log()] == [1, 2, 3, 4]
    assert checkpoint.metrics["training"]["steps"] == 4
    assert "notebook" not in (tmp_path / "run" / "README.md").read_text() + str(checkpoint.metrics)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["vae", "ldm"])
def test_a_training_that_is_closed_early_goes_on_to_what_it_would_have_been(training, tmp_path, name):
    whole, run = tmp_path / "whole", tmp_path / "run"
    list(train(training(name, whole)))
    steps = train(training(name, run))
    next(steps)
    next(steps)
    with pytest.raises(FolderRefused, match="is being written by process"):
        next(train(training(name, run, resume=True)))
    steps.close()
    assert latest_state(run).name == "state-000000002"
    assert [step.step for step in train(training(name, run, resume=True))] == [3, 4]
    part = {"vae": "vae", "ldm": "pipeline"}[name]
    networks = [getattr(read_checkpoint(folder), part) for folder in (whole, run)]
    if name == "ldm":
        networks = [pipeline.unet for pipeline in networks]
    assert same_weights(*(network.state_dict() for network in networks))
