"""What a list says of a checkpoint, and which checkpoints it begins with."""

import json
import shutil
from pathlib import Path

import pytest

from ldm_explorer.explore.checkpoint_words import first_names, in_a_line
from ldm_explorer.explore.library import open_library
from ldm_explorer.explore.reconstruction import latent_size
from ldm_explorer.ui.controls import CONTROLS, MORE, checkpoint_choices, described
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import Limits


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    """The folder of the shipped checkpoints, another one than the repository's."""
    monkeypatch.setattr("ldm_explorer.shipped.BESIDE_THE_PACKAGE", tmp_path / "nothing")
    monkeypatch.setenv("LDM_EXPLORER_CHECKPOINTS", str(tmp_path / "checkpoints"))
    return tmp_path / "checkpoints"


def put(source: Path, folder: Path, **options) -> Path:
    """A copy of a run that says of what images it is, for its parent folder's name does not."""
    shutil.copytree(source, folder)
    config = folder / "train_config.json"
    known = json.loads(config.read_text()) if config.exists() else {}
    config.write_text(json.dumps(known | {"dataset": "fashion_mnist"} | options))
    return folder


def test_a_checkpoint_is_named_with_what_was_trained_and_its_latent_as_its_weights_have_it(
    ldm_folder, vae_folder, tmp_path
):
    put(ldm_folder, tmp_path / "ldm", schedule="linear", prediction="epsilon")
    put(ldm_folder, tmp_path / "foreign")
    put(vae_folder, tmp_path / "vae")
    library = open_library(tmp_path)
    for name, trained in (("ldm", "denoiser, linear, noise"), ("foreign", "denoiser"), ("vae", "autoencoder alone")):
        size = latent_size(library.get(name))
        assert in_a_line(library.get(name)) == f"{name}: {trained}; {size.shape} = {size.values:,} values"


def test_what_was_trained_for_a_comparison_is_listed_once_somebody_asks_for_more(ldm_folder, shipped, tmp_path):
    put(ldm_folder, shipped / "fashion_mnist" / "ldm-mine")
    put(ldm_folder, shipped / "lab" / "lab-healthy")
    own = put(ldm_folder, tmp_path / "runs" / "own")
    library = open_library(shipped, own.parent)
    assert first_names(library) == ["ldm-mine", "own"]
    dropdown = CONTROLS["checkpoint"].make(library)
    assert [name for _, name in dropdown.choices] == ["ldm-mine", "own", MORE]
    assert dropdown.choices[-1][0] == "more: 1 of comparisons and faults"
    known = described("checkpoint", dropdown, library)
    assert [name for _, name in known["short"]] == ["ldm-mine", "own", MORE]
    assert known["choices"] == ["ldm-mine", "own", "lab-healthy"]
    assert known["whole"] == checkpoint_choices(library)


def test_the_list_begins_with_one_of_each_path_and_network(
    ldm_folder, flow_folder, transformer_folder, vae_folder, shipped
):
    put(ldm_folder, shipped / "fashion_mnist" / "ldm-mine")
    for name in ("size-flow", "size-flow-seed1"):
        put(flow_folder, shipped / "sizes" / name)
    put(transformer_folder, shipped / "sizes" / "size-transformer")
    put(ldm_folder, shipped / "lab" / "lab-healthy")
    put(vae_folder, shipped / "lab" / "vae-collapsed")
    assert first_names(open_library(shipped)) == ["ldm-mine", "size-flow", "size-transformer"]


def test_where_there_is_nothing_else_all_are_listed(ldm_folder, shipped):
    put(ldm_folder, shipped / "lab" / "lab-healthy")
    library = open_library(shipped)
    assert first_names(library) == ["lab-healthy"]
    assert [name for _, name in CONTROLS["checkpoint"].make(library).choices] == ["lab-healthy"]


def test_in_a_browser_the_list_grows_and_a_link_shows_what_it_hides(browser, ldm_folder, shipped):
    put(ldm_folder, shipped / "fashion_mnist" / "ldm-mine")
    put(ldm_folder, shipped / "lab" / "lab-healthy")
    built = build_page(open_library(shipped))
    tab = browser.new_page(viewport={"width": 1280, "height": 720})
    try:
        address = launch(built.app, Limits(), quiet=True, **built.options)
        tab.goto(f"{address}?room=reconstruction")
        tab.get_by_text("ldm-mine: 8x8x4").wait_for()
        tab.get_by_label("Checkpoint").click()
        tab.get_by_role("option", name="more: 1 of comparisons and faults").click()
        tab.get_by_role("option", name="lab-healthy: denoiser").click()
        tab.get_by_text("lab-healthy: 8x8x4").wait_for()
        tab.goto(f"{address}?room=reconstruction&checkpoint=lab-healthy")
        tab.get_by_text("lab-healthy: 8x8x4").wait_for()
        assert tab.get_by_label("Checkpoint").input_value() == "lab-healthy: denoiser; 8x8x4 = 256 values"
    finally:
        tab.close()
        built.app.close()
