"""A run takes a folder that is new, empty or its own, and one process at a time writes there."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ENVIRONMENT, REPO
from foreign_files import contents, plant, unchanged

from ldm_explorer import claims
from ldm_explorer.claims import claim
from ldm_explorer.run_folder import MARK, FolderRefused, RunFolder


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != MARK)


def no_temporaries(folder: Path) -> bool:
    return not (folder / MARK / "tmp").exists()


class TestClaim:
    @pytest.mark.parametrize("exists", [False, True])
    def test_a_new_or_empty_folder_becomes_a_run(self, tmp_path, exists):
        path = tmp_path / "some" / "run"
        path.mkdir(parents=True) if exists else None
        with claim(path) as run:
            assert run.is_marked
            run.write_text("a", "ours")
        with claim(path) as run:
            assert run.names == {"a"}
        assert sorted(file.name for file in (path / MARK).iterdir()) == ["files.json", "lock"]

    @pytest.mark.parametrize("exists", [False, True])
    def test_a_folder_in_which_nothing_was_written_is_left_as_it_was(self, tmp_path, exists):
        path = tmp_path / "run"
        path.mkdir() if exists else None
        with pytest.raises(KeyError), claim(path):
            raise KeyError
        assert path.exists() == exists
        assert not exists or not list(path.iterdir())

    @pytest.mark.parametrize("is_windows", [False, True])
    def test_neither_are_folders_left_that_were_made_for_it(self, tmp_path, monkeypatch, is_windows):
        """On Windows a file that is locked cannot be deleted, and goes with its lock."""
        if is_windows:
            release = claims.FileLock.release
            monkeypatch.setattr(claims.shutil, "rmtree", lambda folder, **_: (folder / "files.json").unlink(True))
            monkeypatch.setattr(
                claims.FileLock, "release", lambda lock: (release(lock), Path(lock.lock_file).unlink(missing_ok=True))
            )
        (tmp_path / "there").mkdir()
        with pytest.raises(KeyError), claim(tmp_path / "there" / "some" / "run"):
            raise KeyError
        assert list(tmp_path.rglob("*")) == [tmp_path / "there"]

    @pytest.mark.parametrize("named_like_ours", [False, True])
    def test_a_folder_of_somebody_elses_is_refused_naming_what_is_there(self, tmp_path, named_like_ours):
        path = tmp_path / "run"
        planted = plant(path, tmp_path / "elsewhere", named_like_ours)
        with (
            pytest.raises(FolderRefused, match=r"holds \.state-old, .* more, and no mark of a run of ours"),
            claim(path),
        ):
            pass
        assert contents(path) == planted

    def test_a_run_of_an_earlier_version_is_told_what_to_do(self, tmp_path):
        for name in ("train_config.json", "train_log.jsonl"):
            (tmp_path / name).touch()
        with pytest.raises(FolderRefused, match=f"python tools/mark_run.py {tmp_path}"), claim(tmp_path):
            pass

    @pytest.mark.parametrize(
        "kind", ["file", "below a file", "link", "dangling link", "working", "above", "home", "root", "mark", "text"]
    )
    def test_what_is_no_place_for_a_run_is_refused(self, tmp_path, monkeypatch, kind):
        there, home = tmp_path / "there" / "deeper", tmp_path / "home"
        there.mkdir(parents=True)
        home.mkdir()
        monkeypatch.chdir(there)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("USERPROFILE", str(home))
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to(home)
        (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
        RunFolder(tmp_path / "run").write_text("a", "ours")
        path, said = {
            "file": (tmp_path / "file", "is a file"),
            "below a file": (tmp_path / "file" / "run", f"{tmp_path / 'file'} is a file"),
            "link": (tmp_path / "link", f"is a link to {home}: give that folder itself"),
            "dangling link": (tmp_path / "dangling", "is a link to"),
            "working": (Path(), "is the working directory, or contains it"),
            "above": (Path("../../there"), "is the working directory, or contains it"),
            "home": (home, "is the home folder, or contains it"),
            "root": (Path("/"), "is the working directory, or contains it"),
            "text": (tmp_path / "run-\udcff", r"run-\\udcff has a name with characters that are no text"),
            "mark": (tmp_path / "run" / MARK / "tmp", "lies in the mark of a run"),
        }[kind]
        before = contents(tmp_path)
        with pytest.raises(FolderRefused, match=said), claim(path):
            pass
        assert contents(tmp_path) == before

    def test_what_a_killed_process_left_is_cleared_away_and_the_names_that_it_never_wrote_are_free(self, tmp_path):
        with claim(tmp_path / "run") as run:
            run.write_text("a", "ours")
            run.record(["b"])
            (run.path / MARK / "tmp" / "0123").mkdir(parents=True)
            (run.path / MARK / "tmp" / "0123" / "half").touch()
        with claim(tmp_path / "run") as run:
            assert no_temporaries(run.path)
            assert run.names == {"a"}

    def test_a_kill_while_the_mark_was_made_leaves_a_folder_that_counts_as_empty(self, tmp_path):
        (tmp_path / "run" / MARK / "tmp").mkdir(parents=True)
        (tmp_path / "run" / MARK / "lock").touch()
        with claim(tmp_path / "run") as run:
            run.write_text("a", "ours")
        assert file_names(tmp_path / "run") == ["a"]

    def test_foreign_files_in_a_run_stay_through_all_that_a_run_does(self, tmp_path):
        with claim(tmp_path / "run") as run:
            run.write_text("a", "ours")
        planted = plant(tmp_path / "run", tmp_path / "elsewhere")
        with claim(tmp_path / "run") as run:
            for version in ("old", "new"):
                for part in ("vae", "unet", "scheduler", "film", "images", "state-000000001"):
                    with run.replacing(part, last="config.json") as folder:
                        (folder / "config.json").write_text(version)
                        (folder / f"only in the {version}").write_text(version)
            run.remove(run.names)
            assert unchanged(tmp_path / "run", planted)
        assert unchanged(tmp_path / "run", planted)
        assert RunFolder(tmp_path / "run").names == frozenset()


@pytest.mark.parametrize("name", ["lock", "holder.json", "tmp", "files.json"])
def test_a_link_in_the_mark_is_refused_and_what_it_leads_to_is_as_it_was(tmp_path, name):
    """A run folder may have been downloaded."""
    with claim(tmp_path / "run") as run:
        run.write_text("a", "ours")
    link, precious = run.path / MARK / name, tmp_path / "precious"
    precious.mkdir() if name == "tmp" else precious.write_text('{"format": 1, "files": ["a"]}')
    link.unlink(missing_ok=True)
    link.symlink_to(precious)
    before = contents(tmp_path)
    with pytest.raises(FolderRefused, match=f"{link} is a link, which no run of ours makes"), claim(run.path):
        pass
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["lock", "holder.json"])
def test_a_hard_link_in_the_mark_changes_nothing_elsewhere(tmp_path, name):
    with claim(tmp_path / "run") as run:
        run.write_text("a", "ours")
    (tmp_path / "precious").write_text("precious")
    (run.path / MARK / name).unlink(missing_ok=True)
    (run.path / MARK / name).hardlink_to(tmp_path / "precious")
    with claim(run.path):
        assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "precious").read_text() == "precious"


HOLD = """
import sys, time
from pathlib import Path
from ldm_explorer.claims import claim
with claim(Path(sys.argv[1])) as run:
    run.write_text("a", "ours")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that writes in `tmp_path / "run"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        cwd=REPO,
        env=ENVIRONMENT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


class TestLock:
    def test_a_second_process_is_refused_with_the_pid_of_the_first_until_that_ends(self, tmp_path, holder):
        before = contents(tmp_path)
        for _ in range(2):
            with (
                pytest.raises(FolderRefused, match=f"is being written by process {holder.pid} on "),
                claim(tmp_path / "run"),
            ):
                pass
        assert contents(tmp_path) == before
        holder.communicate("")
        with claim(tmp_path / "run") as run:
            assert run.names == {"a"}

    def test_a_killed_process_leaves_no_lock(self, tmp_path, holder):
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (tmp_path / "run" / MARK / "holder.json").exists()
        with claim(tmp_path / "run") as run:
            assert json.loads((run.path / MARK / "holder.json").read_text())["pid"] == os.getpid()

    def test_a_file_system_without_locks_is_used_with_a_warning(self, tmp_path, monkeypatch, caplog):
        def no_locks(*_, **__):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(claims.FileLock, "acquire", no_locks)
        with claim(tmp_path / "run") as run:
            run.write_text("a", "ours")
        assert "cannot be locked: see that no other process writes there" in caplog.text

    def test_another_error_of_the_lock_is_one(self, tmp_path, monkeypatch):
        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(claims.FileLock, "acquire", full)
        with pytest.raises(OSError, match="No space left"), claim(tmp_path / "run"):
            pass
