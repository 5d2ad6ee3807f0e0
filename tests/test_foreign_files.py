"""Every command leaves what is somebody else's as it is, to the byte, in every folder that it is pointed at."""

import errno
import os
import shutil
from pathlib import Path

import fetch_emoji
import mark_run
import pytest
import screenshots
import shipped_images
import torch
from accelerate.state import AcceleratorState
from commands import load_script
from foreign_files import LIKE_OURS, contents, move_away, plant, unchanged
from helpers import NUM_CLASSES, draw_shapes
from torchvision.transforms.functional import to_pil_image

from ldm_explorer.checkpoints import CheckpointError, read_checkpoint
from ldm_explorer.claims import claim, locked
from ldm_explorer.data import dataset_spec
from ldm_explorer.evaluation.evaluator import Evaluation
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.evaluation.reference import Reference
from ldm_explorer.image_folder import DataError
from ldm_explorer.run_folder import MARK, FolderRefused, RunFolder
from ldm_explorer.training import TrainingFailed, export_state, latent_statistics
from ldm_explorer.training import dataset as dataset_options
from ldm_explorer.training.command_line import main_of
from ldm_explorer.training.drive import drive
from ldm_explorer.training.tasks import autoencoder, classifier, denoiser

evaluate = load_script("evaluate")
pytestmark = pytest.mark.usefixtures("fresh_accelerate")

SHORT = {"max_steps": 2, "batch_size": 4, "threads": 1, "precision": "fp32", "image_side": 32, "log_every_steps": 1}
TRAININGS = {
    "vae": (autoencoder.AutoencoderTraining, autoencoder.VAETrainConfig, {"widths": (16,), "layers_per_block": 1}),
    "ldm": (denoiser.DenoiserTraining, denoiser.LDMTrainConfig, {"widths": (16, 32), "layers_per_block": 1}),
    "features": (classifier.ClassifierTraining, classifier.ClassifierTrainConfig, {"widths": (8, 16, 16)}),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("foreign") / "shapes"
    shapes = draw_shapes(80, seed=0)
    for number, (image, label) in enumerate(zip(shapes.images, shapes.labels, strict=True)):
        path = folder / str(int(label)) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(path)
    return f"folder:{folder}"


@pytest.fixture
def training(dataset, vae_folder):
    """Trains one of `TRAININGS` for two steps into a folder."""

    def train_into(name: str, out: Path, **options) -> None:
        training_class, config_class, widths = TRAININGS[name]
        AcceleratorState._reset_state(reset_partial_state=True)
        vae = {"vae": vae_folder} if name == "ldm" else {}
        drive(training_class(config_class(out=out, **{"dataset": dataset} | SHORT | widths | vae | options)))

    return train_into


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_leaves_what_lies_in_its_folder_through_a_resume_and_an_export(training, tmp_path, name):
    training(name, tmp_path / "run")
    again = contents(tmp_path / "run")
    planted = plant(tmp_path / "run", tmp_path / "elsewhere")
    (tmp_path / "run" / "README.md").unlink()  # written anew by the export
    with pytest.raises(FolderRefused, match=f"{LIKE_OURS}/state.safetensors is not on the list of what this run wrote"):
        training(name, tmp_path / "run", resume=True)
    assert unchanged(tmp_path / "run", planted)
    planted = move_away(tmp_path / "run", planted)
    training(name, tmp_path / "run", resume=True)
    assert unchanged(tmp_path / "run", planted)
    assert {name for name in contents(tmp_path / "run") if name not in planted} == set(again)
    assert (tmp_path / "run" / "README.md").read_text().startswith("---\nlicense")


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_into_a_folder_of_somebody_elses_is_refused_before_any_work(training, tmp_path, monkeypatch, name):
    monkeypatch.setattr(dataset_options, "load_split", lambda *_: pytest.fail("it loads the images"))
    plant(tmp_path / "mine", tmp_path / "elsewhere", named_like_ours=True)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path)
    for place, said in (
        (tmp_path / "mine", r"holds .*, and no mark of a run of ours: give a new or empty folder"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "link", "is a link to .*elsewhere"),
        (Path(), "is the working directory"),
        (Path("/"), "contains it"),
    ):
        for resume in (False, True):
            with pytest.raises(FolderRefused, match=said):
                training(name, place, resume=resume)
    assert contents(tmp_path) == before


def test_a_training_into_the_folder_of_its_images_is_refused_before_any_work(training, dataset, monkeypatch):
    """Its film and examples would be read as images, and what a run was trained on is not to change."""
    monkeypatch.setattr(dataset_options, "load_split", lambda *_: pytest.fail("it loads the images"))
    images = Path(dataset.removeprefix("folder:"))
    before = contents(images)
    with pytest.raises(FolderRefused, match=r"run lies in .*shapes, and what is in there is trained on"):
        training("vae", images / "new" / "run")
    assert contents(images) == before
    assert not (images / "new").exists()


@pytest.mark.parametrize("file", ["README.md", "vae/config.json", "train_config.json", "metrics.json", "dataset.json"])
def test_a_foreign_file_named_as_one_that_the_run_will_write_is_refused_before_any_work(
    training, tmp_path, monkeypatch, file
):
    RunFolder(tmp_path / "run").write_text("film/step-000000001.webp", "ours")
    (tmp_path / "run" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "run" / file).write_text("mine")
    before = contents(tmp_path)
    monkeypatch.setattr(dataset_options, "load_split", lambda *_: pytest.fail("it loads the images"))
    with pytest.raises(FolderRefused, match=f"run/{file} is there, and this run did not write it: move it away"):
        training("vae", tmp_path / "run", resume=True)
    files = {name: content for name, content in contents(tmp_path).items() if MARK not in name}
    assert files == {name: content for name, content in before.items() if MARK not in name}


@pytest.mark.parametrize("frame", [1, 2, 3])
def test_a_foreign_frame_is_refused_before_any_work_where_it_has_the_name_of_one_to_come(
    training, tmp_path, monkeypatch, frame
):
    RunFolder(tmp_path / "run").write_text("train_config.json", "{}")
    path = tmp_path / "run" / "film" / f"step-{frame:09d}.webp"
    path.parent.mkdir()
    path.write_text("mine")

    def loads(*_):
        raise DataError("it loads the images")

    monkeypatch.setattr(dataset_options, "load_split", loads)
    refused = (FolderRefused, f"{path} is there, and this run did not write it")
    error, said = refused if frame <= SHORT["max_steps"] else (DataError, "it loads")
    with pytest.raises(error, match=said):
        training("ldm", tmp_path / "run", resume=True)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("listed", ["at the start", "before the last state"])
def test_an_incomplete_copy_of_a_run_is_not_begun_again(training, tmp_path, monkeypatch, listed):
    """It was copied while it trained, the list of its files before the files."""
    training("vae", tmp_path / "run", save_every_steps=1)
    run = RunFolder(tmp_path / "run")
    if listed == "at the start":
        (run.path / MARK / "files.json").write_text('{"format": 1, "files": ["train_config.json"]}')
    else:
        for name in ("state.safetensors", "progress.json"):
            shutil.copy(run.path / "state-000000002" / name, tmp_path / name)
            run.write_bytes(f"state-000000001/{name}", (tmp_path / name).read_bytes())
        run.remove([f"state-000000002/{name}" for name in ("state.safetensors", "progress.json")])
        (run.path / "state-000000002").mkdir()
        shutil.move(tmp_path / "progress.json", run.path / "state-000000002")
    monkeypatch.setattr(dataset_options, "load_split", lambda *_: pytest.fail("it loads the images"))
    files = {name: content for name, content in contents(run.path).items() if MARK not in name}
    with pytest.raises(
        FolderRefused, match=r"run/state-000000002/.* incomplete copy.* once the run has stopped, or move"
    ):
        training("vae", run.path, resume=True)
    (run.path / "state-000000002").rename(run.path / "state-of-mine")
    if listed == "at the start":
        with pytest.raises(FolderRefused, match=r"run/train_log\.jsonl is not on the list.* incomplete copy"):
            training("vae", run.path, resume=True)
    (run.path / "state-of-mine").rename(run.path / "state-000000002")
    assert {name: content for name, content in contents(run.path).items() if MARK not in name} == files


@pytest.mark.parametrize("save_every_steps", [1, 100])
def test_a_mark_that_is_deleted_while_a_run_trains_is_said_to_be_gone_and_not_made_anew(
    training, tmp_path, monkeypatch, save_every_steps
):
    batch, mark = autoencoder.AutoencoderTask.batch, tmp_path / "run" / MARK

    def delete_the_mark(task, indices, generator):
        if (tmp_path / "run" / "train_log.jsonl").exists() and mark.exists():
            shutil.move(mark, tmp_path / "mark")
        return batch(task, indices, generator)

    monkeypatch.setattr(autoencoder.AutoencoderTask, "batch", delete_the_mark)
    options = {"max_steps": 4, "save_every_steps": save_every_steps}
    with pytest.raises(TrainingFailed) as failed:
        training("vae", tmp_path / "run", **options)
    assert str(failed.value) == (
        f"{mark}, the mark of this run, is gone: bring it back and go on with the same command and --resume, or give "
        "a new --out"
    )
    assert not mark.exists()
    monkeypatch.undo()
    shutil.move(tmp_path / "mark", mark)
    training("vae", tmp_path / "run", resume=True, **options)
    assert read_checkpoint(tmp_path / "run").metrics["training"]["steps"] == 4


def test_options_that_are_put_back_are_the_runs_own_again(training, tmp_path):
    training("vae", tmp_path / "run")
    config = tmp_path / "run" / "train_config.json"
    config.rename(tmp_path / "away")
    for options in ({}, {"seed": 1}):
        with pytest.raises(
            FolderRefused, match=r"without its train_config\.json.*: put that file back, or give another"
        ):
            training("vae", tmp_path / "run", resume=True, **options)
    with locked(RunFolder(tmp_path / "run")):  # as while it is measured
        pass
    (tmp_path / "away").rename(config)
    with pytest.raises(ValueError, match="was started with seed = 0, not 1"):
        training("vae", tmp_path / "run", resume=True, seed=1)
    training("vae", tmp_path / "run", resume=True)


@pytest.mark.parametrize("moment", ["loading", "first step", "export"])
def test_ctrl_c_says_what_is_kept(training, tmp_path, monkeypatch, capsys, moment):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    place, name = {
        "loading": (dataset_options, "load_split"),
        "first step": (autoencoder.AutoencoderTask, "batch"),
        "export": (autoencoder, "save_vae"),
    }[moment]
    monkeypatch.setattr(place, name, interrupted)
    monkeypatch.setattr("sys.argv", ["vae.py"])
    with pytest.raises(SystemExit, match="130"):
        main_of(autoencoder.VAETrainConfig, lambda _: training("vae", tmp_path / "run"))
    said = {
        "loading": "stopped before anything was written",
        "first step": "stopped: begin again with the same command and --resume, for no state was saved yet",
        "export": "stopped: go on from step 2 with the same command and --resume",
    }[moment]
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert (tmp_path / "run").exists() == (moment != "loading")


def test_an_autoencoder_that_is_not_finished_or_not_there_is_said_to_be_so(training, tmp_path):
    """A classifier is a third thing."""
    RunFolder(tmp_path / "young").write_text("train_config.json", "{}")
    with pytest.raises(CheckpointError, match=r"young is a run that is not finished.*: finish it with .* --resume"):
        training("ldm", tmp_path / "run", vae=tmp_path / "young")
    for mistyped in (tmp_path / "yuong", Path("runs/mistyped")):
        with pytest.raises(CheckpointError, match=f"^{mistyped} does not exist: give the folder of a checkpoint"):
            training("ldm", tmp_path / "run", vae=mistyped)
    RunFolder(tmp_path / "young").write_text("features/config.json", "{}")
    with pytest.raises(CheckpointError, match=r"young is no checkpoint: it has no vae/config\.json"):
        training("ldm", tmp_path / "run", vae=tmp_path / "young")


def full_disk(*_) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def readme_of_mine(folder: Path, _vae) -> None:
    (folder / "README.md").write_text("mine")


@pytest.mark.parametrize(
    ("save_vae", "said"),
    [
        (full_disk, r"No space left.*; fix that and go on from step 2 with the same command and --resume"),
        (readme_of_mine, r"README.md is there.*: move it away, then go on from step 2 .*--resume"),
    ],
)
def test_an_export_that_cannot_write_says_how_to_go_on_and_that_works(training, tmp_path, monkeypatch, save_vae, said):
    with monkeypatch.context() as patch:
        patch.setattr(autoencoder, "save_vae", save_vae)
        with pytest.raises(TrainingFailed, match=said):
            training("vae", tmp_path / "run")
    if (mine := tmp_path / "run" / "README.md").exists():
        assert mine.read_text() == "mine"
        mine.rename(tmp_path / "README.md")
    training("vae", tmp_path / "run", resume=True)
    assert read_checkpoint(tmp_path / "run").metrics["training"]["steps"] == 2


def test_a_second_training_beside_a_living_one_is_refused_with_its_pid(training, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_options, "load_split", lambda *_: pytest.fail("it loads the images"))
    with claim(tmp_path / "run") as run:
        run.write_text("train_log.jsonl", '{"step": 1}\n')
        before = contents(tmp_path)
        with pytest.raises(FolderRefused, match=f"is being written by process {os.getpid()} on .*: wait for it"):
            training("vae", tmp_path / "run", resume=True)
        assert contents(tmp_path) == before


def test_a_training_that_cannot_load_its_images_leaves_no_folder(training, tmp_path):
    with pytest.raises(DataError):
        training("vae", tmp_path / "run", dataset=f"folder:{tmp_path}/nothing")
    assert not (tmp_path / "run").exists()


def test_exporting_a_state_leaves_what_lies_in_both_folders(training, tmp_path):
    run, out, mine = tmp_path / "run", tmp_path / "out", tmp_path / "mine"
    training("ldm", run)
    planted = plant(run, tmp_path / "elsewhere")
    before, theirs = contents(run), plant(mine, tmp_path / "others", named_like_ours=True)
    with pytest.raises(FolderRefused, match="no mark of a run of ours"):
        export_state.export_state(run, mine)
    assert contents(mine) == theirs
    with claim(run):  # as while it trains
        export_state.export_state(run, out)
    assert {name: content for name, content in contents(run).items() if MARK not in name} == {
        name: content for name, content in before.items() if MARK not in name
    }
    assert read_checkpoint(out).kind == "ldm"
    planted = plant(out, tmp_path / "more")
    whole = contents(out)
    with pytest.raises(FolderRefused, match="holds a run already: give another --out"):
        export_state.export_state(run, out)
    assert contents(out) == whole
    (out / "model_index.json").unlink()  # as after a kill
    with pytest.raises(FolderRefused, match="holds a run already"):
        export_state.export_state(run, out, "last")
    export_state.export_state(run, out)
    assert contents(out) == whole
    assert unchanged(out, planted)


def test_a_state_that_its_training_replaces_meanwhile_is_exported_all_the_same(training, tmp_path, monkeypatch):
    training("ldm", tmp_path / "run")
    run, load, steps = RunFolder(tmp_path / "run"), export_state.load_weights, []
    (run.path / "latents.safetensors").unlink()

    def replaced_meanwhile(state: Path, *arguments) -> None:
        steps.append(int(state.name.removeprefix("state-")))
        if len(steps) == 1:
            for name in ("state.safetensors", "progress.json"):
                run.write_bytes(f"state-000000003/{name}", (state / name).read_bytes())
                run.remove([f"{state.name}/{name}"])
        load(state, *arguments)

    monkeypatch.setattr(export_state, "load_weights", replaced_meanwhile)
    export_state.export_state(run.path, tmp_path / "out")
    assert steps == [2, 3]
    assert read_checkpoint(tmp_path / "out").kind == "ldm"
    (run.path / "state-000000003" / "state.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be loaded, it is damaged"):
        export_state.export_state(run.path, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_state_that_is_gone_meanwhile_is_named_as_missing(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} holds no state that a run of ours saved"):
        export_state.load_newest(tmp_path, None, "average")


@pytest.fixture
def quick_reference(monkeypatch):
    torch.manual_seed(0)
    spec, network = dataset_spec("fashion_mnist"), FeatureNet(1, NUM_CLASSES, widths=(8, 16)).eval()
    reference = Reference(spec, network, *(draw_shapes(120, seed=seed) for seed in range(3)), num_images=50)
    monkeypatch.setattr(Evaluation, "_reference", lambda *_: reference)


@pytest.mark.usefixtures("quick_reference")
class TestEvaluate:
    def measure(self, folder: Path) -> None:
        evaluate.main(evaluate.EvaluateConfig(checkpoints=(folder,), threads=1))

    def test_a_checkpoint_that_is_no_run_of_ours_is_measured_and_left_as_it_is(self, vae_folder, tmp_path, capsys):
        folder = shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / "theirs")
        shutil.rmtree(folder / MARK)
        plant(folder, tmp_path / "elsewhere", named_like_ours=True)
        (folder / "train_config.json").write_text('{"dataset": "fashion_mnist"}')
        before = contents(folder)
        self.measure(folder)
        assert contents(folder) == before
        output = capsys.readouterr().out
        assert "| theirs |" in output
        assert "theirs has no mark of a run of ours: its measures are printed and kept nowhere" in output

    def test_a_folder_of_samples_is_only_read(self, tmp_path, capsys):
        for number, image in enumerate(draw_shapes(120, seed=0).images[:, :, 2:30, 2:30]):
            path = tmp_path / "samples" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            to_pil_image(image).save(path)
        for name in ("README.md", "metrics.json"):
            (tmp_path / "samples" / name).write_text("mine")
        before = contents(tmp_path)
        self.measure(tmp_path / "samples")
        assert contents(tmp_path) == before
        assert "| samples |" in capsys.readouterr().out

    def test_in_a_run_nothing_but_the_figures_changes(self, vae_folder, tmp_path):
        folder = shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / "run")
        planted = plant(folder, tmp_path / "elsewhere")
        before = contents(folder)
        self.measure(folder)
        assert unchanged(folder, planted)
        new = set(contents(folder)) - set(before)
        assert {"metrics.json"} <= new <= {"metrics.json", f"{MARK}/lock"}  # the lock stays where another run was

    def test_foreign_figures_are_refused_before_any_work(self, vae_folder, tmp_path, monkeypatch):
        folder = shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / "run")
        (folder / "metrics.json").write_text('{"evaluation": {"mine": 1}}')
        before = contents(folder)
        monkeypatch.setattr(Evaluation, "measure", lambda *_: pytest.fail("it measures"))
        with pytest.raises(FolderRefused, match=r"metrics\.json is there, and this run did not write it"):
            self.measure(folder)
        assert contents(folder) == before

    def test_a_run_that_is_being_written_is_refused_before_any_work(self, vae_folder, tmp_path, monkeypatch):
        folder = shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / "run")
        monkeypatch.setattr(Evaluation, "measure", lambda *_: pytest.fail("it measures"))
        with locked(RunFolder(folder)), pytest.raises(FolderRefused, match=f"by process {os.getpid()}"):
            self.measure(folder)


def test_latent_statistics_are_written_into_runs_of_ours_alone_and_by_one_process(ldm_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(ldm_folder, tmp_path / "fashion_mnist" / "run")
    (folder / "latents.safetensors").write_text("mine")
    before = contents(folder)
    with pytest.raises(FolderRefused, match=r"latents\.safetensors is there"):
        list(latent_statistics.write_latents([folder]))
    assert contents(folder) == before
    (folder / "latents.safetensors").unlink()
    monkeypatch.setattr(latent_statistics, "measure", lambda *_: pytest.fail("it measures"))
    with locked(RunFolder(folder)), pytest.raises(FolderRefused, match=f"by process {os.getpid()}"):
        list(latent_statistics.write_latents([folder]))
    shutil.rmtree(folder / MARK)
    with pytest.raises(ValueError, match="has no mark of a run of ours"):
        list(latent_statistics.write_latents([folder]))


def test_a_run_of_an_earlier_version_can_be_marked_and_resumed(training, tmp_path):
    run = tmp_path / "run"
    training("ldm", run)
    names = RunFolder(run).names
    shutil.rmtree(run / MARK)
    planted = plant(run, tmp_path / "elsewhere")
    with pytest.raises(FolderRefused, match=f"python tools/mark_run.py {run}"):
        training("ldm", run, resume=True)
    planted = move_away(run, planted)
    assert set(mark_run.mark(run)) == names
    training("ldm", run, resume=True)
    assert unchanged(run, planted)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "train_config.json").touch()
    (tmp_path / "linked" / MARK).symlink_to(run / MARK)
    refused = {
        "run": "is marked already",
        "elsewhere": "is no run",
        "linked": "error: .* is a link, which no run of ours",
    }
    for folder, said in ((tmp_path / name, said) for name, said in refused.items()):
        with pytest.raises(SystemExit, match=said):
            mark_run.mark(folder)


@pytest.mark.parametrize(
    "main",
    [
        lambda folder: shipped_images.main(folder.name, folder.parent),
        fetch_emoji.main,
        lambda folder: screenshots.main("http://127.0.0.1:9", str(folder)),
    ],
    ids=["shipped images", "emoji", "screenshots"],
)
@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_tools_write_into_new_folders_alone(tmp_path, main, kind):
    if kind == "folder":
        plant(tmp_path / "fashion_mnist", tmp_path / "elsewhere", named_like_ours=True)
    else:
        (tmp_path / "fashion_mnist").symlink_to(tmp_path / "nothing")
    before = contents(tmp_path)
    with pytest.raises(SystemExit, match="fashion_mnist exists already"):
        main(tmp_path / "fashion_mnist")
    assert contents(tmp_path) == before
