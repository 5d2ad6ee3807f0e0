"""Files are opened without waiting for anybody, and no larger than asked for."""

import os
from pathlib import Path

import pytest
from mutant_bytes import png_header
from mutants import DEEP
from PIL import Image

from ldm_explorer.files import (
    CheckpointError,
    as_sentence,
    first_line,
    open_picture,
    printable,
    read_bytes,
    read_json,
    shown,
)


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link") == b"content"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="is no regular file"):
            read_bytes(path)
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)


def test_a_file_is_read_up_to_a_size_and_not_beyond(tmp_path):
    (tmp_path / "file").write_bytes(bytes(2_000_000))
    assert len(read_bytes(tmp_path / "file", 2_000_000)) == 2_000_000
    with pytest.raises(CheckpointError, match=r"file has 2\.0 MB: 1\.5 are read at most"):
        read_bytes(tmp_path / "file", 1_500_000)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (DEEP, "cannot be read as JSON: recursion limit exceeded"),
        ("", "cannot be read as JSON: EOF while parsing"),
        ('{"a": "\\ud800"}', "cannot be read as JSON: unexpected end of hex escape"),
        ("[1]", "is no JSON object"),
        ("NaN", "is no JSON object"),
    ],
)
def test_what_is_no_json_object_is_said_in_one_line(tmp_path, content, said):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(CheckpointError, match=said) as refusal:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(refusal.value)


def test_a_folder_in_the_place_of_a_file_and_a_link_to_itself_are_refused(tmp_path):
    (tmp_path / "a.json").mkdir()
    (tmp_path / "b.json").symlink_to("b.json")
    for name in ("a.json", "b.json"):
        with pytest.raises(CheckpointError, match=f"{name} cannot be read as JSON"):
            read_json(tmp_path / name)
    assert read_json(tmp_path / "c.json") == {}


def test_whatever_came_is_shown_on_one_printable_line():
    assert printable("run-\udcff\n\x00\u202e") == "run-\\udcff\\n\\x00\\u202e"
    assert printable("größe 図") == "größe 図"
    for value in ("x" * 10_000, [[["x"] * 99] * 99] * 99, 10**4000, {"a": list(range(99))}):
        assert len(shown(value)) <= 80
    assert shown(["a"]) == "['a']"
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(MemoryError()) == "MemoryError"


@pytest.mark.parametrize("kind", ["EPS", "TGA", "PCX"])
def test_formats_that_are_not_listed_are_not_opened_whatever_their_name(tmp_path, kind):
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png", kind)
    with pytest.raises(ValueError, match="is no picture"), open_picture(tmp_path / "picture.png"):
        pass


def test_a_picture_is_judged_by_its_head_before_it_is_decoded(tmp_path):
    (tmp_path / "large.png").write_bytes(png_header(5000, 5000))
    said = r"large\.png is no picture: it has 5000 x 5000 pixels, 1,000,000 are read"
    with pytest.raises(ValueError, match=said), open_picture(tmp_path / "large.png", max_pixels=1_000_000) as image:
        image.load()
    with open_picture(tmp_path / "large.png") as image:
        assert image.size == (5000, 5000)


@pytest.mark.parametrize(("said", "sentence"), [("it fits", "It fits"), ("train_config.json says so", None)])
def test_a_sentence_begins_with_a_capital_but_for_the_name_of_a_file(said, sentence):
    assert as_sentence(said) == (sentence or said)
