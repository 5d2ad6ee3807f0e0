"""Run folders that are broken in every way: none stops the app, a room or the diagnosis."""

import logging
import shutil
from pathlib import Path

import pytest
from mutants import choose_mutants
from rooms import faults_of
from subject import write_subject

from ldm_explorer.diagnosis import case
from ldm_explorer.explore.library import open_library
from ldm_explorer.ui.page import build_page

COUNT = 50


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Path:
    """Read only: copy the folder it lies in to change it."""
    return write_subject(tmp_path_factory.mktemp("subject") / "pictures")


@pytest.fixture(autouse=True)
def _short_log(caplog):
    caplog.set_level(logging.CRITICAL)


@pytest.fixture(autouse=True, scope="module")
def _fewer_latents():
    """The same checks on a few latents and images."""
    patch = pytest.MonkeyPatch()
    for name, most in {"MAX_BATCH": 4, "MAX_IMAGES": 16, "SAMPLING_STEPS": 3}.items():
        patch.setattr(case, name, most)
    yield
    patch.undo()


def test_a_healthy_folder_is_answered_in_every_room(subject):
    assert open_library(subject.parents[1]).names() == [subject.name]
    assert faults_of(subject.parents[1], [subject]) == []


def test_no_mutant_makes_a_reader_a_room_or_the_diagnosis_raise(subject, tmp_path):
    """What is refused is refused in a sentence, and nothing is answered by what nobody foresaw."""
    faults = {}
    for number, mutant in enumerate(choose_mutants(subject, COUNT)):
        root = tmp_path / str(number)  # each where nobody has read before: the app keeps what it read of a folder
        dataset = shutil.copytree(subject.parent, root / "pictures", symlinks=True)
        mutant.change(dataset / subject.name)
        folders = [path for path in dataset.iterdir() if path.is_dir() and path.name != "features"]
        if said := faults_of(root, folders, examine=False):
            faults[str(mutant)] = said
        shutil.rmtree(root)
    assert faults == {}


def test_the_app_starts_beside_mutants_and_names_what_it_does_not_show(subject, tmp_path):
    healthy = shutil.copytree(subject, tmp_path / "pictures" / "healthy")
    for number, mutant in enumerate(choose_mutants(subject, COUNT, seed=1)):
        if not mutant.file.startswith(".."):  # which lies beside a run
            mutant.change(shutil.copytree(subject, tmp_path / "pictures" / f"mutant-{number:02}", symlinks=True))
    shutil.copytree(subject, tmp_path / "pictures" / "run-\udcff")
    library = open_library(tmp_path)
    assert healthy.name in library.names()
    assert library.skipped
    build_page(library)
