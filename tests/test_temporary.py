"""What visitors upload does not stay: not for longer than an hour, not after the app, not after a kill."""

import os
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest

from ldm_explorer.ui import temporary
from ldm_explorer.ui.temporary import LOCK, sweep, temporary_folder

APP = """
import runpy, sys, time
with runpy.run_path(sys.argv[1])["temporary_folder"]() as folder:
    (folder / "sha").mkdir()
    (folder / "sha" / "picture.png").write_text("upload")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "of the user"))
    return tmp_path / "of the user"


@pytest.fixture
def start(root):  # noqa: ARG001 (a fixture cannot be marked usefixtures)
    """Starts another app, up to where it has an upload."""
    started = []

    def start() -> tuple[subprocess.Popen, Path]:
        command = [sys.executable, "-c", APP, temporary.__file__]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1], Path(started[-1].stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_what_a_killed_app_left_is_removed_at_the_next_start_and_nothing_else(root, start):
    _, living = start()
    killed, dead = start()
    killed.kill()
    killed.wait()
    foreign = [root / "gradio" / "theirs.png", root / "ldm-explorer-1-notes" / "lock", root / "ldm-explorer-1-file"]
    foreign += [root / "ldm-explorer-my-notes" / LOCK]
    foreign += [root / "linked" / LOCK, root / "linked" / "mine.txt"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("foreign")
    (root / "ldm-explorer-2-link").symlink_to(root / "linked")
    assert (dead / "sha" / "picture.png").is_file()
    with temporary_folder() as folder:
        assert folder.parent == root
        assert not dead.exists()
    assert not folder.exists()
    assert (living / "sha" / "picture.png").read_text() == "upload"
    assert {path.read_text() for path in foreign} == {"foreign"}
    assert os.environ["GRADIO_TEMP_DIR"] == str(root)


def test_nothing_is_left_of_an_app_that_fails(root):
    with pytest.raises(KeyboardInterrupt), temporary_folder() as folder:
        raise KeyboardInterrupt
    assert not folder.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == str(root)


@pytest.mark.usefixtures("root")
def test_gradio_keeps_its_files_there():
    with temporary_folder() as folder:
        assert Path(gr.Image().GRADIO_CACHE) == folder
        assert folder.name.startswith(f"ldm-explorer-{os.getpid()}-")


@pytest.mark.usefixtures("root")
def test_files_are_gone_after_an_hour_and_so_are_those_that_were_never_complete(monkeypatch):
    with temporary_folder() as folder:
        (folder / "sha").mkdir()
        for name in ("sha/old.png", "tmpold"):
            (folder / name).write_text("old")
        sweep(folder)
        assert (folder / "sha" / "old.png").exists()
        hour_later = temporary.time.time() + 3700
        monkeypatch.setattr(temporary.time, "time", lambda: hour_later)
        sweep(folder)
        sweep(folder)
        assert [path.name for path in folder.iterdir()] == [LOCK]
