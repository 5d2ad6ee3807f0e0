"""A file is written whole or not at all, and nothing stays beside it."""

import os
from pathlib import Path

import pytest

from ldm_explorer import atomic
from ldm_explorer.atomic import delete, write_json, write_text


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


@pytest.mark.parametrize("reads", [2, 5])
def test_windows_waits_for_a_reader_and_not_for_ever(tmp_path, monkeypatch, reads):
    """It neither replaces nor deletes a file that is open."""
    replace, unlink, left = os.replace, Path.unlink, {}

    def busy(name):
        left[name] = left.get(name, reads) - 1
        if left[name] >= 0:
            raise PermissionError(13, "used by another process", str(name))

    monkeypatch.setattr(atomic, "WAITS_SECONDS", (0, 0, 0))
    (tmp_path / "old").touch()
    monkeypatch.setattr(os, "replace", lambda one, other: (busy(other), replace(one, other)))
    monkeypatch.setattr(
        Path, "unlink", lambda path, **options: (path.name == "old" and busy(path)) or unlink(path, **options)
    )
    for change in (lambda: write_text(tmp_path / "new", "text"), lambda: delete(tmp_path / "old")):
        if reads > 3:
            with pytest.raises(PermissionError, match="used by another process"):
                change()
        else:
            change()
    assert [path.name for path in tmp_path.iterdir()] == (["old"] if reads > 3 else ["new"])
