"""The diagnosis names the fault that was put into a folder first, and accuses nothing that is healthy."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from folder_edits import edit_json, scheduler
from folder_faults import FAULTS
from PIL import Image

from ldm_explorer import diagnose
from ldm_explorer.checkpoints import CheckpointError
from ldm_explorer.diagnosis import case as case_module
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.examination import FAILED
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.diagnosis.verdicts import OUT_OF_REACH, Diagnosis, NotRun, Verdict, explain
from ldm_explorer.discovery import discover
from ldm_explorer.explore import diagnosis as explore_diagnosis
from ldm_explorer.explore.diagnosis import diagnose_folder
from ldm_explorer.shipped import shipped_checkpoints

SHIPPED = {checkpoint.name: checkpoint.folder for checkpoint in discover(shipped_checkpoints())[0]}
BROKEN = {
    "kl-100": "posterior has collapsed",
    "lab-as-reported": "next to noise",
    "lab-collapsed": "posterior has collapsed",
    "lab-few-steps": "needs more training",
    "lab-high-learning-rate": "looks untrained",
    "lab-raw-latents": "not normalised",
    "vae-collapsed": "posterior has collapsed",
}
"""Runs of the lab and of the family, and what is to be said of each."""
COSINE, LINEAR = "size-8x8x4", "size-8x8x4-linear"
"""No check was built on these two."""
NEEDED_SHARE = 0.9


@pytest.fixture(autouse=True, scope="module")
def _fewer_latents():
    """The same checks on a quarter of the latents and half of the images."""
    patch = pytest.MonkeyPatch()
    patch.setattr(case_module, "MAX_BATCH", 8)
    patch.setattr(case_module, "MAX_IMAGES", 50)
    yield
    patch.undo()


def names(diagnosis: Diagnosis) -> list[str]:
    return [cause.name for cause in diagnosis.causes]


@pytest.mark.parametrize("checkpoint", [COSINE, LINEAR])
def test_the_injected_fault_comes_first(checkpoint, tmp_path):
    """At least nine in ten, over every fault that lives in a folder."""
    missed = {}
    for name, fault in FAULTS.items():
        folder = tmp_path / name
        shutil.copytree(SHIPPED[checkpoint], folder)
        fault.inject(folder)
        diagnosis = diagnose_folder(folder)
        shutil.rmtree(folder)
        print(f"{name:28} {'; '.join(cause.title for cause in diagnosis.causes) or '-'}")
        if names(diagnosis)[:1] != [fault.cause]:
            missed[name] = names(diagnosis)
        assert all(cause.fix and cause.evidence for cause in diagnosis.causes)
        assert all('"beta_schedule": ' in c.fix for c in diagnosis.causes if c.name == "schedule_by_behaviour")
    assert len(missed) <= (1 - NEEDED_SHARE) * len(FAULTS), missed


@pytest.mark.parametrize("value", ["shape", "num_timesteps", "prediction_type", "amplitudes", "can_sample"])
def test_what_needs_a_denoiser_is_not_run_on_an_autoencoder_alone(vae_folder, value):
    with pytest.raises(NotRun, match="which this folder lacks"):
        getattr(open_case(vae_folder), value)


@pytest.mark.parametrize(("name", "said"), BROKEN.items())
def test_a_broken_training_is_named(name, said):
    assert said in diagnose_folder(SHIPPED[name]).causes[0].title


@pytest.mark.parametrize("name", sorted(set(SHIPPED) - set(BROKEN)))
def test_no_shipped_checkpoint_is_accused(name):
    diagnosis = diagnose_folder(SHIPPED[name])
    assert names(diagnosis) == []
    assert len(diagnosis.passed) + len(diagnosis.not_run) == len(CHECKS)
    assert not any(FAILED in verdict.evidence for verdict in diagnosis.not_run)
    assert f"Nothing is wrong with {name}" in diagnosis.sentence()


def test_without_a_record_and_without_images_a_healthy_folder_is_not_accused(tmp_path):
    folder = tmp_path / "foreign"
    shutil.copytree(SHIPPED[LINEAR], folder)
    for name in ("train_config.json", "train_log.jsonl", "metrics.json", "latents.safetensors"):
        (folder / name).unlink(missing_ok=True)
    diagnosis = diagnose_folder(folder)
    assert names(diagnosis) == []
    reasons = {verdict.name: verdict.evidence for verdict in diagnosis.not_run}
    assert "class is known" in reasons["labels_match"]
    assert "train_config.json" in reasons["schedule"]


def test_epsilon_with_zero_terminal_snr_is_seen_beside_the_wrong_prediction_type(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(SHIPPED[COSINE], folder)
    scheduler(prediction_type="epsilon", rescale_betas_zero_snr=True)(folder)
    diagnosis = diagnose_folder(folder)
    assert names(diagnosis)[0] == "prediction_type"
    assert "terminal_snr" in [symptom.name for symptom in diagnosis.symptoms]


def save_ddpm(folder: Path, norm_num_groups: int) -> None:
    """What diffusers' own training example leaves: a DDPMPipeline over 16x16 colour images, not trained."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=norm_num_groups,
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)


def test_a_schedule_that_was_rescaled_after_training_is_told_by_its_line(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(SHIPPED[LINEAR], folder)
    scheduler(rescale_betas_zero_snr=True)(folder)
    (cause,) = diagnose_folder(folder).causes
    assert cause.name == "schedule"
    assert '"rescale_betas_zero_snr": false' in cause.fix


@pytest.fixture(scope="module")
def pixel_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels") / "ddpm"
    save_ddpm(folder, norm_num_groups=8)
    return folder


def test_channels_that_are_normalised_alone_lose_the_timestep(tmp_path):
    save_ddpm(tmp_path / "ddpm", norm_num_groups=32)
    (cause,) = diagnose_folder(tmp_path / "ddpm").causes
    assert cause.name == "time_response"
    assert "norm_num_groups" in cause.fix


def test_an_untrained_ddpm_pipeline_has_learned_nothing(pixel_folder):
    diagnosis = diagnose_folder(pixel_folder)
    assert names(diagnosis) == ["learned"]
    assert "looks untrained" in diagnosis.sentence()
    assert "pixels" in {v.name: v.evidence for v in diagnosis.passed}["clipping"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(60):
        colour = (4 * number, 255 - 4 * number, 128)
        path = folder / ("red" if number % 2 else "green") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 24), colour).save(path)
    return folder


def test_images_of_any_size_serve_a_pixel_model(pixel_folder, pictures):
    diagnosis = diagnose_folder(pixel_folder, pictures)
    assert names(diagnosis) == ["learned"]
    assert "on images" in diagnosis.causes[0].evidence
    assert diagnosis.images.shape == (16, 3, 16, 16)
    assert diagnosis.reconstructions is None


def test_seven_images_are_examined_and_a_line_says_what_was_read(pixel_folder, pictures, tmp_path, capsys, monkeypatch):
    for path in sorted(pictures.rglob("*.png"))[:7]:
        shutil.copy(path, tmp_path)
    (tmp_path / "notes.txt").write_text("")
    seen = []
    monkeypatch.setattr(explore_diagnosis, "examine", lambda case: seen.append(case) or Diagnosis(case.folder.name, []))
    diagnose.main([str(pixel_folder), "--images", str(tmp_path), "--json"])
    said = capsys.readouterr()
    assert seen[0].images.shape == (7, 3, 16, 16)
    assert json.loads(said.out)
    assert f"{tmp_path}: 7 images" in said.err
    assert "1 left out (1 .txt)" in said.err


def test_an_untrained_run_of_ours_is_called_nothing_else(ldm_folder):
    diagnosis = diagnose_folder(ldm_folder)
    assert set(names(diagnosis)) <= {"round_trip", "learned"}
    assert "learned" in names(diagnosis) + [symptom.name for symptom in diagnosis.symptoms]


def broken_folders(tmp_path, ldm_folder):
    copies = {}
    for name in ("empty", "bin", "json", "log", "half", "edm", "channels", "sides"):
        copies[name] = tmp_path / name
        if name != "empty":
            shutil.copytree(ldm_folder, copies[name])
    copies["empty"].mkdir()
    weights = copies["bin"] / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    (copies["json"] / "scheduler" / "scheduler_config.json").write_text("{")
    (copies["log"] / "train_log.jsonl").write_text('{"step": nonsense}\n')
    (copies["half"] / "unet" / "config.json").unlink()
    edit_json(copies["edm"] / "scheduler" / "scheduler_config.json", _class_name="EDMEulerScheduler")
    edit_json(copies["channels"] / "vae" / "config.json", latents_std=[1.0])
    edit_json(copies["sides"] / "unet" / "config.json", sample_size=[64, 8])
    return copies


REFUSALS = {
    "empty": "holds no model",
    "bin": "pickled weights alone",
    "json": "cannot be read as JSON",
    "log": "train_log.jsonl cannot be read",
    "half": "half-written",
    "edm": "has no betas",
    "channels": "need 4 values",
    "sides": "images of side 256, the autoencoder's images have side 32",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_folder_that_cannot_be_examined_is_refused_in_one_sentence(name, tmp_path, ldm_folder, capsys):
    folder = broken_folders(tmp_path, ldm_folder)[name]
    with pytest.raises(CheckpointError, match=REFUSALS[name]):
        diagnose_folder(folder)
    assert diagnose.main([str(folder)]) == diagnose.REFUSED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert len(printed.err.splitlines()) == 1


def test_the_command_says_the_same_as_text_and_as_json(tmp_path, capsys):
    folder = tmp_path / "collapsed"
    shutil.copytree(SHIPPED["vae-32x32x1"], folder)
    FAULTS["encoder collapsed"].inject(folder)
    assert diagnose.main([str(folder)]) == diagnose.ACCUSED
    text = capsys.readouterr().out
    assert diagnose.main([str(folder), "--json"]) == diagnose.ACCUSED
    content = json.loads(capsys.readouterr().out)
    assert content["sentence"].split()[0] in text
    assert [cause["name"] for cause in content["causes"]] == ["collapse"]
    assert content["symptoms"]
    assert content["out_of_reach"] == list(OUT_OF_REACH)
    assert diagnose.main([str(SHIPPED["vae-32x32x1"])]) == diagnose.HEALTHY
    assert "It needs a denoiser" in " ".join(capsys.readouterr().out.split())


def test_a_cause_explains_its_side_effects_and_the_worst_comes_first():
    def suspect(name: str, severity: int) -> Verdict:
        return Verdict(name, name, "suspect", "", severity=severity)

    verdicts = [suspect("mild", 1), suspect("specific", 3), suspect("symptom", 3), Verdict("fine", "", "ok", "")]
    diagnosis = Diagnosis("folder", explain(verdicts, {"mild": (), "specific": ("symptom",), "symptom": ()}))
    assert [cause.name for cause in diagnosis.causes] == ["specific", "mild"]
    assert [(symptom.name, symptom.explained_by) for symptom in diagnosis.symptoms] == [("symptom", "specific")]
    assert "specific; 1 other fault below" in diagnosis.sentence()


def test_every_check_explains_only_what_comes_after_it():
    order = [check.name for check in CHECKS]
    assert len(set(order)) == len(order)
    for check in CHECKS:
        assert all(order.index(name) > order.index(check.name) for name in check.explains)
