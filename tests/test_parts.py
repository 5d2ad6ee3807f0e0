"""The parts of a long evaluation: kept as they are measured, shared by processes, measured anew after any change."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from foreign_files import contents, plant

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.evaluation.parts import Parts, digest, rounded
from ldm_explorer.evaluation.processes import OneProcess
from ldm_explorer.files import CheckpointError
from ldm_explorer.latents import in_batches
from ldm_explorer.run_files import update_metrics
from ldm_explorer.run_folder import MARK, RunFolder
from ldm_explorer.training import launched
from ldm_explorer.training.launched import LaunchedProcesses

CONDITIONS = {"weights": "abc", "evaluations": 16}


@pytest.fixture
def folder(vae_folder, tmp_path):
    shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / "run")
    return tmp_path / "fashion_mnist" / "run"


@pytest.fixture
def alone():
    return OneProcess()


def never():
    raise AssertionError("measured again")


class TestParts:
    def test_a_part_is_kept_and_not_measured_again_on_resume(self, folder, alone):
        first = Parts(read_checkpoint(folder), "evaluation", CONDITIONS, False, alone)
        assert first.measure("seed 0", lambda: {"fd_percent": 0.123456789}) == {"fd_percent": 0.12346}
        again = Parts(read_checkpoint(folder), "evaluation", CONDITIONS, True, alone)
        assert again.measure("seed 0", never) == {"fd_percent": 0.12346}

    @pytest.mark.parametrize("change", [{"evaluations": 8}, {"weights": "def"}])
    def test_other_conditions_or_no_resume_measure_anew(self, folder, alone, change):
        Parts(read_checkpoint(folder), "evaluation", CONDITIONS, False, alone).measure("a", lambda: {"x": 1.0})
        for conditions, resume in ((CONDITIONS | change, True), (CONDITIONS, False)):
            fresh = Parts(read_checkpoint(folder), "evaluation", conditions, resume, alone)
            assert fresh.measure("a", lambda: {"x": 2.0}) == {"x": 2.0}

    def test_a_finished_section_is_stored_beside_the_others_and_found_on_resume(self, folder, alone):
        update_metrics(folder, "training", {"steps": 3})
        running = Parts(read_checkpoint(folder), "evaluation", CONDITIONS, False, alone)
        running.measure("a", lambda: {"x": 1.0})
        figures = running.finish({"a": {"x": 1.0}, "n": [1, 2.34567891]})
        assert read_checkpoint(folder).metrics == {"training": {"steps": 3}, "evaluation": figures}
        assert figures == {"a": {"x": 1.0}, "n": [1, 2.3457], "conditions": CONDITIONS}
        assert not list(folder.glob("*.partial.json"))
        checkpoint = read_checkpoint(folder)
        assert Parts(checkpoint, "evaluation", CONDITIONS, True, alone).finished() == figures
        assert Parts(checkpoint, "evaluation", CONDITIONS, False, alone).finished() is None
        assert Parts(checkpoint, "evaluation_quick", CONDITIONS, True, alone).finished() is None

    def test_in_a_folder_that_is_no_run_of_ours_nothing_is_kept(self, folder, alone):
        shutil.rmtree(folder / MARK)
        planted = plant(folder, folder.parent / "elsewhere", named_like_ours=True)
        (folder / "evaluation.partial.json").write_text(json.dumps({"conditions": CONDITIONS, "parts": {"a": "mine"}}))
        before = contents(folder)
        foreign = Parts(read_checkpoint(folder), "evaluation", CONDITIONS, True, alone)
        assert foreign.measure("a", lambda: {"x": 1.0}) == {"x": 1.0}
        assert foreign.finish({"a": {"x": 1.0}})["a"] == {"x": 1.0}
        assert contents(folder) == before
        assert before.items() >= planted.items()


class TestLaunchedProcesses:
    @pytest.mark.parametrize("world", [1, 2, 3])
    def test_every_process_gets_what_one_would(self, monkeypatch, world):
        inputs = torch.arange(1000.0)
        ranks = [
            SimpleNamespace(process_index=rank, num_processes=world, is_main_process=rank == 0) for rank in range(world)
        ]
        shares = []
        monkeypatch.setattr(launched, "gather_object", lambda share: shares.extend(share) or shares)
        for rank in reversed(ranks[1:]):
            with pytest.raises(IndexError):  # the others have not answered yet
                LaunchedProcesses(1, rank).batched(torch.square, inputs)
        shares.reverse()
        monkeypatch.setattr(launched, "gather_object", lambda share: share + shares)
        assert torch.equal(
            LaunchedProcesses(1, ranks[0]).batched(torch.square, inputs), in_batches(torch.square, inputs)
        )


def test_figures_are_rounded_at_any_depth_and_none_where_they_are_not_finite():
    figures = {"a": [1.234567, {"b": float("nan")}], "c": float("inf"), "d": 10_000, "e": None}
    assert rounded(figures) == {"a": [1.2346, {"b": None}], "c": None, "d": 10_000, "e": None}


def test_a_digest_knows_weights_and_normalisation(folder):
    before = digest(folder)
    with RunFolder(folder).replacing("vae") as temporary:
        (temporary / "half.safetensors").write_bytes(b"written")
        assert digest(folder) == before, "what is being written is not there yet"
        (temporary / "half.safetensors").unlink()
        for path in (folder / "vae").iterdir():
            shutil.copy(path, temporary)
    assert digest(folder) == before
    config = json.loads((folder / "vae" / "config.json").read_text())
    config["latents_std"][0] *= 2
    (folder / "vae" / "config.json").write_text(json.dumps(config))
    assert digest(folder) != before


@pytest.mark.parametrize("kind", ["list", "pipe"])
def test_a_digest_is_of_the_files_of_a_run_alone(folder, kind):
    before = {part: digest(folder, part) for part in ("", "vae")}
    for part in ("notes", "vae/mine"):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text("[1]")
        os.mkfifo(folder / part / "x.safetensors") if kind == "pipe" else None
    assert {part: digest(folder, part) for part in before} == before
    shutil.rmtree(folder / MARK)
    said = "x.safetensors is no regular file" if kind == "pipe" else "config.json is no JSON object"
    with pytest.raises(CheckpointError, match=said):
        digest(folder)
