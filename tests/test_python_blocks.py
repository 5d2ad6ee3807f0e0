"""Every block of Python in README and docs runs, one document after the other, in a folder without a checkout.

Those of docs/api.md want a server, and run in test_api.py.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import REPO
from helpers import draw_shapes

from ldm_explorer import data
from ldm_explorer.data import crop
from ldm_explorer.diagnosis.verdicts import Diagnosis

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = (REPO / "README.md", *sorted((REPO / "docs").glob("*.md")))
DOCUMENTS = {path: blocks for path in PAGES if (blocks := BLOCK.findall(path.read_text()))}
SIZES = {"train": 300, "validation": 100, "test": 100}


@pytest.fixture
def small_fashion_mnist(monkeypatch):
    """Drawn shapes in the place of 70,000 images."""
    dataset = data.DATASETS["fashion_mnist"]

    def load(_data_dir: Path | None, split: str):
        shapes = draw_shapes(SIZES[split], seed=list(SIZES).index(split))
        return crop(shapes.images, dataset.spec), shapes.labels

    monkeypatch.setitem(data.DATASETS, "fashion_mnist", replace(dataset, load=load))


@pytest.fixture
def everything_is_accused(monkeypatch):
    """A shipped checkpoint is healthy, so a loop over its causes would say nothing."""
    monkeypatch.setattr(Diagnosis, "causes", property(lambda diagnosis: list(diagnosis.verdicts)))


@pytest.fixture
def one_thread_again():
    """A training computes with all cores."""
    yield
    torch.set_num_threads(1)


def run_blocks(path: Path) -> dict:
    """What the blocks of a document leave, run as one program."""
    scope: dict = {"__name__": "__main__"}
    for block in DOCUMENTS[path]:
        exec(compile(block, str(path), "exec"), scope)
    return scope


def test_the_readme_samples_an_image_and_reads_a_loss(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope = run_blocks(REPO / "README.md")
    assert len(DOCUMENTS[REPO / "README.md"][0].splitlines()) <= 10
    assert (tmp_path / "boot.gif").stat().st_size > 0
    assert [frame.size for frame in scope["frames"]] == [(32, 32)] * 10
    assert "The validation loss ended at" in capsys.readouterr().out


@pytest.mark.usefixtures("small_fashion_mnist", "everything_is_accused", "fresh_accelerate", "one_thread_again")
@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if path.name not in ("README.md", "api.md")], ids=lambda path: path.name
)
def test_the_blocks_of_a_document_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_blocks(path)
