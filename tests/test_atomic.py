"""A file is written whole or not at all, and nothing stays beside it."""

import os

import pytest

from ldm_explorer.atomic import write_json, write_text


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path):
    write_text(tmp_path / "a.md", "old")
    write_text(tmp_path / "a.md", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.md": "new"}


def test_what_lies_beside_it_under_a_hidden_name_stays(tmp_path):
    (tmp_path / ".a.json.tmp").write_text("mine")
    write_json(tmp_path / "a.json", {})
    assert (tmp_path / ".a.json.tmp").read_text() == "mine"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    def fails(*_):
        raise error

    write_text(tmp_path / "a.md", "old")
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(error):
        write_text(tmp_path / "a.md", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.md": "old"}
