"""Folders that once stopped the app, each by name: such a folder is passed over in a sentence, and the others shown."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from folder_edits import edit_json, scheduler
from foreign_files import plant
from mutant_bytes import png_header, webp_of_size
from mutants import DEEP
from subject import LOG, write_subject

from ldm_explorer import checkpoints, diagnose
from ldm_explorer.checkpoints import CheckpointError, load_vae
from ldm_explorer.evaluation.classifier import classifier_folder
from ldm_explorer.explore import library as library_module
from ldm_explorer.explore.images import example_images
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.size_measures import read_measures
from ldm_explorer.explore.training_film import training_film
from ldm_explorer.explore.training_run import find_runs, read_run
from ldm_explorer.run_files import read_total_steps
from ldm_explorer.run_folder import MARK, RunFolder


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Path:
    """Read only: copy it to change it."""
    return write_subject(tmp_path_factory.mktemp("subject") / "pictures")


@pytest.fixture
def dataset(subject, tmp_path) -> Path:
    """A folder with two copies of a run: `good`, and `bad` to be changed."""
    for name in ("good", "bad"):
        shutil.copytree(subject, tmp_path / "pictures" / name)
    return tmp_path / "pictures"


def edit(name: str, **changes) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / name, **changes)


def overwrite(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def named_pipe(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def class_7_of_others(folder: Path) -> None:
    (folder / "images/1").rename(folder / "images/7")
    shutil.rmtree(folder / MARK)


STATUSES = (diagnose.HEALTHY, diagnose.ACCUSED, diagnose.REFUSED)
FRAME = "film/step-000000005.webp"
STOPPED = {
    "an unknown beta_schedule": (scheduler(trained_betas=None, beta_schedule="cubic"), "beta_schedule is 'cubic'"),
    "T of 10^11": (scheduler(trained_betas=None, num_train_timesteps=10**11), "num_train_timesteps is 100000000000"),
    "T of 10^11 in training": (edit("train_config.json", num_timesteps=10**11), "num_timesteps is 100000000000"),
    "a dataset that is a list": (edit("train_config.json", dataset=["a"]), "dataset is ['a'], it should be"),
    "a dataset that is an object": (edit("train_config.json", dataset={"a": 1}), "dataset is {'a': 1}, it should be"),
    "settings nested 100,000 deep": (overwrite("train_config.json", DEEP), "cannot be read as JSON: recursion limit"),
    "figures nested 100,000 deep": (overwrite("metrics.json", DEEP), "cannot be read as JSON: recursion limit"),
    "a network nested 100,000 deep": (overwrite("vae/config.json", DEEP), "cannot be read as JSON: recursion limit"),
    "a frame of 20000 x 20000": (overwrite(FRAME, webp_of_size(20_000, 20_000)), "step-000000005.webp is no picture"),
    "a PNG of 20000 x 20000": (overwrite("images/1/00001.png", png_header(20_000, 20_000)), "00001.png is no picture"),
    "a frame of too many pixels": (overwrite(FRAME, webp_of_size(10_000, 5000)), "10000 x 5000 pixels, 8,400,000 are"),
    "a frame that is no WebP": (overwrite(FRAME, png_header(16, 16)), "step-000000005.webp is no picture"),
    "nested class_names": (edit("dataset.json", class_names=["a", ["b"]]), "class_names.1 is ['b'], it should be"),
    "sides of text": (edit("dataset.json", side="16"), "side is '16', it should be a valid integer"),
    "latents_mean of text": (edit("vae/config.json", latents_mean=["a", "b"]), "latents_mean.0 is 'a', it should be"),
    "too few latents_std": (edit("vae/config.json", latents_std=[1.0]), "need 2 values, latents_std has 1"),
    "an autoencoder's sample_size": (edit("vae/config.json", sample_size=[16, 16]), "sample_size is [16, 16], it"),
    "a UNet's sample_size": (
        edit("unet/config.json", sample_size=[8, 4]),
        "the denoiser takes latents (2, 8, 4), the autoencoder makes (2, 8, 8)",
    ),
    "short betas": (scheduler(trained_betas=[0.1] * 10), "has 10 trained_betas for 50 num_train_timesteps"),
    "betas beyond 1": (scheduler(trained_betas=[2.0] * 50), "trained_betas.0 is 2.0, it should be less than or equal"),
    "a huge number": (edit("unet/config.json", layers_per_block=10**400), "layers_per_block is 1000000000"),
    "a named pipe of figures": (named_pipe("metrics.json"), "metrics.json is no regular file"),
    "a named pipe of weights": (named_pipe("vae/diffusion_pytorch_model.safetensors"), "is no regular file"),
    "a named pipe of a frame": (named_pipe(FRAME), "is no regular file"),
    "a large network": (edit("unet/config.json", block_out_channels=[512, 512]), "tensors do not fit it"),
    "a huge network": (edit("unet/config.json", block_out_channels=[8192, 8192]), "values, and 500,000,000 are read"),
    "5 MB of settings": (overwrite("train_config.json", " " * 5_000_000), "has 5.0 MB: 4 are read at most"),
    "a class that is not there": (class_7_of_others, "is of class 7"),
    "5 MB of names": (overwrite(f"{MARK}/files.json", " " * 5_000_000), "does not list the files of a run"),
    "a damaged list of names": (overwrite(f"{MARK}/files.json", "{"), "does not list the files of a run"),
}
"""What was changed, and what is said of it."""

EXAMINED_ALL_THE_SAME = {
    name for name in STOPPED if re.search("frame|PNG|class|picture|figures|sides|UNet|short|names", name)
}
"""A diagnosis does not look at pictures, figures and lists of names; it names short betas as a cause."""


@pytest.mark.parametrize("name", STOPPED)
def test_a_folder_that_stopped_the_app_is_passed_over_in_a_sentence(dataset, name, capsys, caplog):
    change, said = STOPPED[name]
    change(dataset / "bad")
    library = open_library(dataset.parent)
    assert library.names() == ["good"]
    (skip,) = library.skipped
    assert skip.folder == dataset / "bad"
    assert said in skip.reason
    assert "\n" not in skip.reason
    assert caplog.messages == [], "what is foreseen is no news for the log"
    if name not in EXAMINED_ALL_THE_SAME:
        assert diagnose.main([str(dataset / "bad")]) == diagnose.REFUSED
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("marked", [True, False])
def test_files_that_are_no_runs_cost_nothing(dataset, tmp_path, marked):
    """Neither its examples, nor its film, its length or its being an autoencoder."""
    bad, autoencoder = dataset / "bad", dataset / "autoencoder"
    shutil.copytree(dataset / "good", autoencoder)
    run = RunFolder(autoencoder)
    run.remove(name for name in run.names if name.startswith(("unet/", "scheduler/", "film/", "model_index")))
    for number, folder in enumerate((bad, autoencoder)):
        plant(folder, tmp_path / f".elsewhere-{number}")
        if marked:
            (folder / "unet").mkdir(exist_ok=True)
            (folder / "unet" / "mine.txt").touch()
        else:
            shutil.rmtree(folder / MARK)
            shutil.rmtree(folder / "state-999999999")  # that has the name of a state, as far as anybody can tell
    library = open_library(dataset.parent)
    assert (library.names(), library.skipped) == (["autoencoder", "bad", "good"], ())
    assert library.get("autoencoder").kind == "vae"
    films = [training_film(library.get(name)) for name in ("bad", "good")]
    assert [[shot.step for shot in film] for film in films] == [[1, 2, 4, 5]] * 2
    assert len(example_images(library.get("bad")).images) == len(example_images(library.get("good")).images)
    assert {read_total_steps(folder) for folder in (bad, autoencoder)} == {25}
    assert all(diagnose.main([str(folder)]) != diagnose.REFUSED for folder in (bad, autoencoder))


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "vae/config.json", "features/config.json"])
def test_a_foreign_file_does_not_decide_what_kind_of_run_a_folder_is(dataset, name):
    """Neither of an autoencoder nor of a run that has no weights yet."""
    finished, young = dataset / "finished", dataset / "features"  # where the classifier of these images would be
    shutil.copytree(dataset / "good", finished)
    run = RunFolder(finished)
    run.remove(name for name in run.names if name.startswith(("unet/", "scheduler/", "film/", "model_index")))
    RunFolder(young).write_bytes("train_config.json", b'{"dataset": "ours"}')
    for folder in (finished, young):
        if not (path := folder / name).exists():
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(dataset / "good" / "unet/config.json", path)
    library = open_library(dataset.parent)
    assert library.names() == ["bad", "finished", "good"]
    assert library.get("finished").kind == "vae"
    assert [skip.folder for skip in library.skipped] == [young]
    assert "has no weights yet: its training goes on" in library.skipped[0].reason
    assert find_runs(library)["features"].label == "features (unfinished)"
    assert diagnose.main([str(finished)]) != diagnose.REFUSED
    assert classifier_folder("ours", dataset) is None
    with pytest.raises(CheckpointError, match="features is a run that is not finished"):
        load_vae(young)


def test_a_classifier_with_a_damaged_list_of_files_costs_itself_alone(dataset):
    RunFolder(dataset / "features").write_text("features/config.json", "{}")
    (dataset / "features" / MARK / "files.json").write_text("{")
    library = open_library(dataset.parent)
    assert library.names() == ["bad", "good"]
    assert [skip.folder for skip in library.skipped] == [dataset / "features"]


@pytest.mark.parametrize("name", ["run-\udcff", "two\nlines", "a bell\a"])
def test_a_name_that_is_no_text_is_passed_over_and_can_be_printed(dataset, name):
    bad = (dataset / "bad").rename(dataset / name)
    library = open_library(dataset.parent)
    assert library.names() == ["good"]
    assert "characters that are no text" in library.skipped[0].reason
    assert library.skipped[0].reason.isprintable()
    assert list(find_runs(library)) == ["good"]
    assert diagnose.main([str(bad)]) in STATUSES


def test_an_unreadable_folder_costs_itself_alone(dataset, monkeypatch):
    (dataset.parent / "closed").mkdir()
    enter = Path.iterdir

    def iterdir(path: Path):
        if path.name in ("closed", "bad"):
            raise PermissionError(13, "Permission denied")
        return enter(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert "good" in open_library(dataset.parent).names()
    (closed,) = open_library(dataset.parent / "closed").skipped
    assert "closed cannot be looked through: [Errno 13] Permission denied" in closed.reason


def test_a_folder_that_cannot_be_entered_costs_itself_alone(dataset, monkeypatch):
    known = Path.is_file

    def is_file(path: Path) -> bool:
        if "bad" in path.parts:
            raise PermissionError(13, "Permission denied")
        return known(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    library = open_library(dataset.parent)
    assert library.names() == ["good"]
    assert "bad cannot be read (PermissionError" in library.skipped[0].reason
    assert list(find_runs(library)) == ["good"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("too deep"), KeyError("step"), TypeError("two\nlines")]
)
def test_what_no_reader_foresaw_costs_one_folder_and_is_one_line_in_the_log(dataset, monkeypatch, caplog, error):
    def read(checkpoint):
        if checkpoint.folder.name == "bad":
            raise error

    monkeypatch.setattr(library_module, "training_film", read)
    library = open_library(dataset.parent)
    assert library.names() == ["good"]
    assert f"bad cannot be read ({type(error).__name__}" in library.skipped[0].reason
    (line,) = caplog.messages
    assert line.startswith("passed over: ")
    assert "\n" not in line


def test_the_same_where_a_folder_is_looked_at_without_its_weights(dataset, monkeypatch, caplog):
    def read(folder: Path):
        if folder.name == "bad":
            raise RecursionError
        return known(folder)

    known = checkpoints.read_run_config
    monkeypatch.setattr(checkpoints, "read_run_config", read)
    assert open_library(dataset.parent).names() == ["good"]
    assert len(caplog.messages) == 1
    assert find_runs(open_library(dataset.parent))["bad"].checkpoint is None


LOGS = {
    "step 0": ({"step": 0}, "step is 0, it should be greater than or equal to 1"),
    "a huge step": ({"step": 10**400}, "it should be less than or equal to"),
    "text": ({"loss": "low"}, "loss is 'low', it should be a valid number"),
    "a step back": ({"step": 3}, "goes back from step 25 to 3: two trainings wrote this log"),
    "no bins": ({"validation_loss": 1, "validation_loss_per_bin": []}, "validation_loss_per_bin is []"),
    "fewer bins": (
        {"validation_loss": 1, "validation_loss_per_bin": [1]},
        "validation_loss_per_bin unlike those before",
    ),
    "bins alone": ({"validation_loss_per_bin": [1] * 10}, "validation_loss_per_bin unlike those before it"),
}
"""What another line than a last one of step 99 holds, and what is said of it."""


@pytest.mark.parametrize("name", LOGS)
def test_a_line_that_no_plot_can_hold_is_named_where_the_log_is_asked_for(dataset, name):
    fields, said = LOGS[name]
    with (dataset / "bad" / LOG).open("a") as log:
        log.write(f"{json.dumps({'step': 99, 'images': 9900, 'loss': 1} | fields)}\n")
    library = open_library(dataset.parent)
    assert sorted(library.names()) == ["bad", "good"]
    with pytest.raises(ValueError, match=re.escape(said)) as refusal:
        read_run(library, "bad")
    assert " 26" in str(refusal.value)
    assert read_run(library, "good").records


def test_a_log_of_107_mb_is_refused_by_its_size(dataset):
    with (dataset / "bad" / LOG).open("ab") as log:
        log.truncate(107_000_000)
    with pytest.raises(ValueError, match=r"has 107\.0 MB: 16 are read at most"):
        read_run(open_library(dataset.parent), "bad")
    assert diagnose.main([str(dataset / "bad")]) == diagnose.REFUSED


def test_what_a_log_holds_beside_its_figures_reaches_no_plot(dataset):
    lines = [json.loads(line) | {"validation_grad_norm": "text"} for line in (dataset / "bad" / LOG).open()]
    (dataset / "bad" / LOG).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert "validation_grad_norm" not in read_run(open_library(dataset.parent), "bad").fields


def test_figures_that_are_no_measure_count_as_not_measured(dataset):
    figures = {"psnr_db": 10**400, "ssim": True, "rfd_percent": 0.5, "fd_percent": 1e308}
    edit_json(
        dataset / "bad" / "metrics.json", evaluation={"reconstruction": figures, "generation": {"sampler": ["a"]}}
    )
    (read,) = read_measures(open_library(dataset.parent), ["bad"])
    assert read.measures.keys() == {"rfd_percent", "gflops_per_image"}
    assert read.sampler is None


def test_a_dataset_is_a_name_and_no_path(dataset):
    shutil.copytree(dataset.parent / "pictures" / "good" / "images", dataset.parent / "elsewhere")
    shutil.rmtree(dataset / "bad" / "images")
    edit_json(dataset / "bad" / "train_config.json", dataset=str(dataset.parent / "elsewhere"))
    library = open_library(dataset.parent / "pictures")
    assert library.names() == ["good"]
    assert "bad/images holds no test images" in library.skipped[0].reason


def test_a_classifier_of_fewer_classes_is_not_asked(subject, tmp_path):
    dataset = shutil.copytree(subject.parent, tmp_path / "pictures")
    assert set(open_library(tmp_path).classifiers) == {"folder:pictures"}
    edit_json(dataset / subject.name / "dataset.json", class_names=["green", "red", "blue"])
    shutil.rmtree(dataset / subject.name / "film")
    library: Library = open_library(tmp_path)
    assert library.classifiers == {}
    assert "knows 2 classes, these images have 3" in library.skipped[0].reason


def test_a_diagnosis_that_nobody_foresaw_is_one_sentence_and_exit_status_2(monkeypatch, capsys, tmp_path):
    def fail(*_):
        raise TypeError("'<' not supported\nbetween")

    monkeypatch.setattr(diagnose, "diagnose_folder", fail)
    assert diagnose.main([str(tmp_path)]) == diagnose.REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be examined (TypeError: '<' not supported" in line
