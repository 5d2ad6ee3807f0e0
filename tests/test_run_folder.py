"""A run folder is recognised by its mark, and nothing but the run's own files in it ever changes."""

import json
import os
from pathlib import Path

import pytest
from foreign_files import contents

from ldm_explorer import run_folder
from ldm_explorer.claims import claim
from ldm_explorer.run_folder import MARK, FolderRefused, RunFolder


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != MARK)


def no_temporaries(folder: Path) -> bool:
    return not (folder / MARK / "tmp").exists()


class TestWriting:
    def test_a_part_appears_only_when_it_is_whole(self, tmp_path):
        run = RunFolder(tmp_path / "new" / "run")
        with run.replacing("vae") as folder:
            (folder / "part").write_text("one")
            assert not (run.path / "vae").exists()
        assert file_names(run.path / "vae") == ["part"]
        assert file_names(run.path) == ["vae"]
        assert no_temporaries(run.path)

    def test_a_part_takes_the_place_of_what_the_run_wrote_there_and_of_nothing_else(self, tmp_path):
        run = RunFolder(tmp_path)
        for name in ("old", "new"):
            with run.replacing("vae") as folder:
                (folder / name).write_text(name)
                (folder / "both").write_text(name)
            (tmp_path / "vae" / "mine").write_text("mine")
        assert file_names(tmp_path / "vae") == ["both", "mine", "new"]
        assert (tmp_path / "vae" / "both").read_text() == "new"
        assert run.names == {"vae/both", "vae/new"}

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_an_error_leaves_the_old_part_and_nothing_else(self, tmp_path, error):
        RunFolder(tmp_path).write_text("vae/old", "old")
        before = contents(tmp_path)

        def write_half() -> None:
            with RunFolder(tmp_path).replacing("vae") as folder:
                (folder / "half").write_text("half")
                raise error

        with pytest.raises(error):
            write_half()
        assert contents(tmp_path) == before

    def test_the_file_by_which_a_part_counts_as_whole_goes_first_and_comes_last(self, tmp_path, monkeypatch):
        """So at no moment old and new can be read together."""
        run, seen = RunFolder(tmp_path), []
        put = run_folder.put

        def watched(temporary, final):
            put(temporary, final)
            if final.parent.name == "vae":
                seen.append({path.name: path.read_text() for path in final.parent.iterdir()})

        for version in ("old", "new"):
            with run.replacing("vae", last="config.json") as folder:
                for name in ("config.json", "weights", f"shard of the {version}"):
                    (folder / name).write_text(version)
            monkeypatch.setattr(run_folder, "put", watched)
        assert ["config.json" in files for files in seen] == [False, False, True]
        assert seen[-1] == {"config.json": "new", "weights": "new", "shard of the new": "new"}

    def test_a_part_that_is_refused_leaves_the_old_one_whole(self, tmp_path):
        run = RunFolder(tmp_path)

        def write(*names: str) -> None:
            with run.replacing("vae", last="config.json") as folder:
                for name in names:
                    (folder / name).write_text("new")

        write("config.json")
        (tmp_path / "vae" / "weights").write_text("mine")
        before = contents(tmp_path)
        with pytest.raises(FolderRefused, match="vae/weights is there"):
            write("config.json", "weights")
        assert contents(tmp_path) == before

    def test_a_name_is_on_the_list_before_it_is_written(self, tmp_path, monkeypatch):
        put = run_folder.put

        def killed(temporary, final):
            if final.name == "two":
                raise KeyboardInterrupt
            put(temporary, final)

        run = RunFolder(tmp_path)
        run.write_text("one", "1")
        monkeypatch.setattr(run_folder, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            run.write_text("two", "2")
        assert run.names == {"one", "two"}

    @pytest.mark.parametrize("name", ["README.md", "vae/config.json", "film/step-000000001.webp"])
    @pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
    def test_what_the_run_did_not_write_is_never_overwritten(self, tmp_path, name, kind):
        run, path = RunFolder(tmp_path / "run"), tmp_path / "run" / name
        path.parent.mkdir(parents=True)
        (tmp_path / "precious").write_text("precious")
        if kind == "file":
            path.write_text("mine")
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(tmp_path / ("precious" if kind == "link" else "nothing"))
        before = contents(tmp_path)
        for write in (run.write_text, run.append_text):
            with pytest.raises(FolderRefused, match=f"{path} is there, and this run did not write it: move it away"):
                write(name, "ours")
        with pytest.raises(FolderRefused, match="move it away"), run.replacing(str(Path(name).parent)) as folder:
            (folder / Path(name).name).write_text("ours")
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_a_subfolder_that_is_a_file_or_leads_elsewhere_is_not_written_to(self, tmp_path, kind):
        run = RunFolder(tmp_path / "run")
        run.write_text("vae/config.json", "ours")
        (tmp_path / "run" / "vae").rename(tmp_path / "elsewhere")
        if kind == "file":
            (tmp_path / "run" / "vae").write_text("mine")
        else:
            (tmp_path / "run" / "vae").symlink_to(tmp_path / "elsewhere")
        before = contents(tmp_path)
        with pytest.raises(FolderRefused, match="run/vae is there"):
            run.write_text("vae/config.json", "new")
        run.remove(["vae/config.json"])
        assert {name: text for name, text in contents(tmp_path).items() if MARK not in name} == {
            name: text for name, text in before.items() if MARK not in name
        }

    def test_only_files_of_the_run_are_removed_and_folders_that_are_empty_then(self, tmp_path):
        run = RunFolder(tmp_path)
        for name in ("film/a", "film/b", "state-1/a", "README.md"):
            run.write_text(name, "ours")
        (tmp_path / "state-1" / "notes").write_text("mine")
        (tmp_path / "film" / "c").write_text("mine")
        run.remove(["film/a", "film/c", "state-1/a", "README.md"])
        assert run.names == {"film/b"}
        assert file_names(tmp_path) == ["film", "state-1"]
        assert file_names(tmp_path / "film") == ["b", "c"]
        run.remove(["film/b"])
        (tmp_path / "film" / "c").unlink()
        run.write_text("film/d", "ours")
        run.remove(["film/d"])
        assert file_names(tmp_path) == ["state-1"]

    @pytest.mark.parametrize("name", ["../victim", "/victim", "a/../../victim", "a\\b", "C:victim", f"{MARK}/lock", ""])
    def test_a_list_that_names_files_elsewhere_is_refused(self, tmp_path, name):
        """A run folder may have been downloaded."""
        run = RunFolder(tmp_path / "run")
        run.write_text("a/b", "ours")
        path = tmp_path / "run" / MARK / "files.json"
        path.write_text(json.dumps({"format": 1, "files": ["a/b", name]}))
        with pytest.raises(
            FolderRefused, match=r"files\.json does not list the files of a run.*no name of a file in it"
        ):
            run.remove([name])
        with pytest.raises(ValueError, match="no name of a file in it"):
            RunFolder(tmp_path / "other").write_text(name, "x")

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "[]",
            "{}",
            '{"format": 1, "files": 3}',
            '{"format": 1, "files": "../a"}',
            '{"format": 1, "files": ["."]}',
            "[" * 100_000,
        ],
    )
    def test_a_damaged_list_is_refused_in_a_sentence(self, tmp_path, content):
        (tmp_path / MARK).mkdir()
        (tmp_path / MARK / "files.json").write_text(content)
        with pytest.raises(FolderRefused, match="does not list the files of a run"):
            RunFolder(tmp_path).write_text("a", "x")

    def test_a_list_longer_than_any_run_has_is_refused(self, tmp_path):
        run = RunFolder(tmp_path)
        run.adopt([])
        names = [str(number) for number in range(run_folder.MAX_NAMES + 1)]
        (tmp_path / MARK / "files.json").write_text(json.dumps({"format": run_folder.FORMAT, "files": names}))
        with pytest.raises(FolderRefused, match=r"lists 10,001 files, and a run has at most 10,000"):
            _ = run.names

    def test_a_list_of_a_later_version_is_refused(self, tmp_path):
        (tmp_path / MARK).mkdir()
        (tmp_path / MARK / "files.json").write_text('{"format": 2, "files": []}')
        with pytest.raises(FolderRefused, match="of format 2, not 1: use a later version"):
            RunFolder(tmp_path).write_text("a", "x")

    def test_a_mark_that_is_a_link_is_none(self, tmp_path):
        RunFolder(tmp_path / "real").write_text("a", "ours")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / MARK).symlink_to(tmp_path / "real" / MARK)
        before = contents(tmp_path)
        with pytest.raises(FolderRefused, match=f"holds {MARK}"), claim(tmp_path / "run"):
            pass
        with pytest.raises(FolderRefused, match="is a link, which no run of ours makes"):
            RunFolder(tmp_path / "run").write_text("b", "ours")
        assert contents(tmp_path) == before


def test_a_run_knows_what_it_has_just_written_on_a_file_system_with_a_coarse_clock(tmp_path, monkeypatch):
    """There a new list of files may have inode, time and size of one before it."""
    whole = os.stat

    def coarse(path, *arguments, **options):
        status = whole(path, *arguments, **options)
        is_list = str(path).endswith("files.json")
        return os.stat_result((status.st_mode, 1, 1, 1, 0, 0, 100, 0, 0, 0)) if is_list else status

    monkeypatch.setattr(os, "stat", coarse)
    run = RunFolder(tmp_path)
    for name in ("a", "b", "c"):
        run.adopt([name])
        assert name in run.names
