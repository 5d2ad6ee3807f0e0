"""A training from Python: a generator of steps into a folder of its own, without a command line."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import draw_shapes, same_weights
from safetensors.torch import load_file
from torchvision.transforms.functional import to_pil_image

from ldm_explorer.checkpoints import read_checkpoint, save_vae
from ldm_explorer.image_folder import read_image_folder
from ldm_explorer.run_folder import FolderRefused
from ldm_explorer.training import latest_state, push, train
from ldm_explorer.training import run as run_module
from ldm_explorer.training.command_line import Interrupted
from ldm_explorer.training.drive import drive
from ldm_explorer.training.run import begin
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
        along = {"schedule": "flow", "timesteps": "logit_normal"} if name == "flow" else {}
        return DenoiserTraining(LDMTrainConfig(**{"widths": (16, 32), "vae": vae_folder} | along | common))

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


def test_a_finished_training_is_pushed_where_that_is_asked_for(training, tmp_path, monkeypatch):
    pushed = []
    monkeypatch.setattr(push, "get_token", lambda: "token")
    monkeypatch.setattr(run_module, "push", lambda *asked: pushed.append(asked))
    list(train(training("ldm", tmp_path / "run", push_to_hub="me/run", license="mit")))
    assert pushed == [(tmp_path / "run", "me/run")]
    card = (tmp_path / "run" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\nlibrary_name: diffusers\n")
    assert (tmp_path / "run" / "samples.png").is_file()
    assert "push_to_hub" not in read_checkpoint(tmp_path / "run").config
    assert "me/run" not in card


def test_ctrl_c_in_a_push_says_that_the_run_is_there(training, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(push, "get_token", lambda: "token")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "push", stop)
    with pytest.raises(Interrupted, match=r"stopped: the run is whole in .*run, and `python train/push.py .* me/run`"):
        drive(training("vae", tmp_path / "run", push_to_hub="me/run"))
    said = capsys.readouterr().out
    assert f"wrote {tmp_path / 'run'}\nValidation images come back with " in said, "and how good it is"
    assert read_checkpoint(tmp_path / "run").kind == "vae"


@pytest.mark.parametrize(
    ("token", "name", "said"), [("token", "me", "is no name of a"), (None, "me/run", "hf auth login")]
)
def test_a_training_that_cannot_be_pushed_is_refused_before_any_work(
    training, tmp_path, monkeypatch, token, name, said
):
    monkeypatch.setattr(push, "get_token", lambda: token)
    with pytest.raises(ValueError, match=said):
        next(train(training("vae", tmp_path / "run", push_to_hub=name)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["vae", "ldm", "flow"])
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
    part = "vae" if name == "vae" else "pipeline"
    networks = [getattr(read_checkpoint(folder), part) for folder in (whole, run)]
    if name != "vae":
        networks = [pipeline.unet for pipeline in networks]
    assert same_weights(*(network.state_dict() for network in networks))


def test_a_command_says_in_one_line_which_images_it_was_given(training, dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["vae.py"])
    drive(training("vae", tmp_path / "run", max_steps=1))
    lines = [line for line in capsys.readouterr().out.splitlines() if "80 images" in line]
    folder = dataset.removeprefix("folder:")
    assert len(lines) == 1
    assert lines[0].startswith(f"{folder}: 80 images (")
    assert lines[0].endswith("no classes, none left out")


def begun(training) -> None:
    """Leaves the state of two steps."""
    steps = train(training)
    next(steps), next(steps)
    steps.close()


@pytest.fixture
def moved(dataset, tmp_path) -> str:
    """The same images under another path."""
    shutil.copytree(dataset.removeprefix("folder:"), tmp_path / "elsewhere")
    return f"folder:{tmp_path / 'elsewhere'}"


@pytest.mark.parametrize("name", ["vae", "ldm"])
def test_a_run_goes_on_where_the_same_images_and_weights_lie(training, tmp_path, moved, vae_folder, name):
    whole, run = tmp_path / "whole", tmp_path / "run"
    list(train(training(name, whole)))
    begun(training(name, run))
    places = {"dataset": moved}
    if name == "ldm":
        places["vae"] = shutil.copytree(vae_folder, tmp_path / "vae")
    assert [step.step for step in train(training(name, run, resume=True, **places))] == [3, 4]
    states = [load_file(folder / "state-000000004" / "state.safetensors") for folder in (whole, run)]
    assert same_weights(*states)
    stored = json.loads((run / "train_config.json").read_text())
    assert {place: stored[place] for place in places} == {place: str(path) for place, path in places.items()}


@pytest.mark.parametrize("change", ["renamed", "gone", "other weights"])
def test_others_are_refused_also_at_the_same_path(training, tmp_path, moved, vae_folder, change):
    vae = shutil.copytree(vae_folder, tmp_path / "vae")
    begun(training("ldm", tmp_path / "run", dataset=moved, vae=vae))
    if change == "other weights":
        other = read_checkpoint(vae).vae
        next(other.parameters()).data += 1
        save_vae(vae, other)
        said = r"an autoencoder of SHA-256 \w+ \(vae = .*bring back what it began with"
    else:
        image = tmp_path / "elsewhere" / "7.png"
        image.rename(image.with_name("other.png")) if change == "renamed" else image.unlink()
        read_image_folder.cache_clear()
        now = {"renamed": 80, "gone": 79}[change]
        said = rf"started with 80 images, names .*\(dataset = .*elsewhere is {now} images, names .*bring back what it"
    with pytest.raises(ValueError, match=said):
        next(train(training("ldm", tmp_path / "run", dataset=moved, vae=vae, resume=True)))


def test_what_the_launcher_was_told_is_an_option_of_the_run(training, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    assert [step.images for step in train(training("vae", tmp_path / "run"))] == [8, 16, 24, 32]
    with begin(training("vae", tmp_path / "other"), "accelerate launch train/vae.py") as other:
        assert other.command == "accelerate launch train/vae.py --gradient-accumulation-steps 2"
    assert json.loads((tmp_path / "run" / "train_config.json").read_text())["gradient_accumulation_steps"] == 2
    monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    with pytest.raises(ValueError, match="gradient_accumulation_steps = 2, not 1"):
        next(train(training("vae", tmp_path / "run", resume=True)))
