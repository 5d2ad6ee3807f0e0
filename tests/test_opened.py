"""What is opened while the app runs: by whom, by which reference, and how much of it is kept."""

import json
import shutil
from dataclasses import replace

import pytest

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.data import DATASETS
from ldm_explorer.explore import opened as module
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.opened import MAX_OF_VISITORS, MAX_OPENED, MAX_REFERENCE, MayOpen, Opened, Reference

OWN, HUB = MayOpen(own=True), MayOpen(hub_for_all=True)


@pytest.fixture
def library(ldm_folder, vae_folder) -> Library:
    shown = {folder.name: read_checkpoint(folder) for folder in (ldm_folder, vae_folder)}
    return Library(shown, (), {}, may_open=OWN)


@pytest.mark.parametrize(
    ("text", "source", "about"),
    [
        ("hf:owner/name", "hf:owner/name", {}),
        (" hf:owner/name@v1.0 ", "hf:owner/name@v1.0", {}),
        ("https://huggingface.co/owner/name", "hf:owner/name", {}),
        ("https://huggingface.co/owner/name/tree/refs%2Fpr%2F1", "hf:owner/name@refs/pr/1", {}),
        ("hf:owner/name?dataset=mnist", "hf:owner/name", {"dataset": "mnist"}),
        ("/models/mine", "/models/mine", {}),
        ("/models/there/../mine/", "/models/mine", {}),
        ("/models/mine?images=/pictures", "/models/mine", {"images": "/pictures"}),
        ("/models/mine?images=", "/models/mine", {}),
        ("/models/what?", "/models/what?", {}),
    ],
)
def test_a_reference_is_a_path_or_an_id_and_what_it_is_of(text, source, about):
    read = Reference.read(text)
    assert read == Reference(source, **about)
    assert Reference.read(read.text) == read, "as it stands in an address"


def test_a_path_is_whole_and_from_the_home_it_names(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert {Reference.read(text).source for text in ("~/mine", "mine", "./mine", "mine/../mine")} == {
        str(tmp_path / "mine")
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "nothing came"),
        ("?dataset=mnist", "nothing came"),
        ("/x" * MAX_REFERENCE, f"in at most {MAX_REFERENCE} characters"),
        ("/tmp/\0x", "no text"),
        ("/tmp/\ud800", "no text"),
        ("owner/name", "hf:owner/name"),
        ("https://example.com/owner/name", "no address of a model"),
        ("file:///models/mine", "no address of a model"),
        ("/models/mine?dataset=ponies", f"choose one of {', '.join(DATASETS)}"),
        ("~nobody-of-this-name/x", "is no path"),
    ],
)
def test_a_hostile_or_mistyped_reference_is_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        Reference.read(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("may_open", "text", "here", "refusal"),
    [
        (OWN, "/models/mine", True, None),
        (OWN, "hf:owner/name", True, None),
        (OWN, "/models/mine", False, "folders are opened here for who sits at the server"),
        (OWN, "hf:owner/name", False, "ids of the Hub are opened here for who sits at the server"),
        (HUB, "hf:owner/name?dataset=mnist", False, None),
        (HUB, "https://huggingface.co/owner/name", False, None),
        (HUB, "hf:owner/name?images=/home", False, "folders are opened here"),
        (HUB, "/models/mine", True, "folders are opened here"),
        (MayOpen(), "hf:owner/name", True, "opens no other models"),
    ],
)
def test_who_may_open_what(may_open, text, here, refusal):
    if refusal is None:
        may_open.check(text, here)
        return
    with pytest.raises(ValueError, match=refusal):
        may_open.check(text, here)


def test_it_is_found_by_reference_and_by_a_name_of_its_own_and_is_in_no_list(library, ldm_folder):
    listed = library.names()
    kept = library.opened.add("/models/tiny-ldm", read_checkpoint(ldm_folder), "tiny-ldm", library.checkpoints)
    assert kept.name == "tiny-ldm (2)"
    assert library.get("/models/tiny-ldm") is library.get("tiny-ldm (2)") is kept
    assert library.get("tiny-ldm") is not kept
    assert library.names() == listed
    assert library.comparable("tiny-ldm", "/models/tiny-ldm")
    assert library.of_same_images("/models/tiny-ldm")[-1] == kept.name
    assert kept.name not in library.of_same_images("tiny-ldm")
    with pytest.raises(ValueError, match="no checkpoint '/models/other'"):
        library.get("/models/other")


def test_opened_again_it_stays_as_it_is_until_its_files_change(ldm_folder, tmp_path):
    folder, opened = tmp_path / "mine", Opened()
    shutil.copytree(ldm_folder, folder)
    first = opened.add(str(folder), read_checkpoint(folder), "mine", ())
    assert opened.add(str(folder), read_checkpoint(folder), "mine", ()) is first
    assert opened.edition == 0
    file = folder / "scheduler/scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"clip_sample": True}))
    second = opened.add(str(folder), read_checkpoint(folder), "mine", ())
    assert second is not first
    assert (second.name, opened.edition) == ("mine", 1), "what was answered before is another question's answer"


def test_a_few_are_kept_and_what_is_let_go_leaves_memory(ldm_folder, monkeypatch):
    opened, checkpoint = Opened(), read_checkpoint(ldm_folder)
    first = opened.add("/0", checkpoint, "model", ())
    assert first.pipeline is first.pipeline
    for number in range(1, MAX_OPENED + 1):
        opened.get("/1" if number > 1 else "/0")
        opened.add(f"/{number}", checkpoint, "model", ())
    assert opened.get("/0") is None
    assert opened.get("/1").name == "model (2)"
    assert "pipeline" not in vars(first)
    monkeypatch.setattr(module, "MAX_BYTES", 1)
    last = opened.add("/last", checkpoint, "model", ())
    assert [opened.get(f"/{number}") for number in range(MAX_OPENED + 1)] == [None] * (MAX_OPENED + 1)
    assert opened.get("/last") is last, "one is kept, however large"


def test_visitors_have_so_many_fetched_and_no_more():
    opened = Opened()
    for number in range(MAX_OF_VISITORS):
        opened.count_visitors(f"hf:owner/{number}")
    opened.count_visitors("hf:owner/0")
    with pytest.raises(ValueError, match=f"visitors had {MAX_OF_VISITORS} models"):
        opened.count_visitors("hf:owner/new")


def test_of_a_folder_with_very_many_files_the_first_are_looked_at(ldm_folder, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    shutil.copytree(ldm_folder, folder)
    monkeypatch.setattr(module, "MAX_FILES", 3)
    assert len(module.files_of(folder)[0]) <= 3


def test_models_of_unknown_images_may_stand_beside_others_of_the_same_shape(library, ldm_folder, color_folder):
    foreign = replace(read_checkpoint(ldm_folder), dataset="who knows")
    foreign = replace(foreign, model=replace(foreign.model, is_ours=False))
    library.opened.add("/foreign", foreign, "foreign", library.checkpoints)
    library.opened.add("/color", read_checkpoint(color_folder), "color", library.checkpoints)
    assert not library.comparable("tiny-ldm", "/foreign")
    assert library.may_be_comparable("tiny-ldm", "/foreign")
    assert not library.may_be_comparable("tiny-ldm", "/color"), "what is known is known"
