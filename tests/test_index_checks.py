"""What the files of a folder say of one another: what it is sampled by, and how it was trained."""

import json
import shutil

import pytest
from folder_edits import edit_json

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.examination import run_check
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.explore.diagnosis import diagnose_folder
from ldm_explorer.files import CheckpointError
from ldm_explorer.shipped import shipped_checkpoints

BY_NAME = {check.name: check for check in CHECKS}
STUDENT = shipped_checkpoints() / "fashion_mnist" / "flagship-8x8x4-student-2"
DISTILLED = "should be ddim in 2, as it was distilled"


def verdict(name: str, original, tmp_path, **index):
    folder = shutil.copytree(original, tmp_path / original.name)
    edit_json(folder / "model_index.json", **index)
    return run_check(BY_NAME[name], open_case(folder))


@pytest.mark.parametrize("index", [{"num_inference_steps": 4}, {"sampler": "unipc"}, {"sampler": "dpm++"}])
def test_a_student_sampled_otherwise_than_it_was_distilled_is_accused(tmp_path, index):
    found = verdict("sampler", STUDENT, tmp_path, **index)
    assert (found.status, found.severity) == ("suspect", 2)
    assert DISTILLED in found.evidence
    assert found.fix == 'model_index.json: "sampler": "ddim", "num_inference_steps": 2'


@pytest.mark.parametrize(
    ("index", "should", "fixed"),
    [
        ({"sampler": "ddim"}, r"should be one of dpm++, unipc, euler, heun", {"sampler": "unipc"}),
        ({"num_inference_steps": 1001}, "should be at most 1000", {"num_inference_steps": 1000}),
        ({"sampler": "heun", "num_inference_steps": 10}, "should be an odd number", {"num_inference_steps": 9}),
        ({"sampler": "heun", "num_inference_steps": 5000}, "should be at most 999", {"num_inference_steps": 999}),
    ],
)
def test_what_cannot_be_sampled_so_is_accused_and_the_fix_can(flow_folder, tmp_path, index, should, fixed):
    found = verdict("sampler", flow_folder, tmp_path, **index)
    assert (found.status, found.severity) == ("suspect", 3)
    assert should in found.evidence
    assert json.loads("{" + found.fix.partition(": ")[2] + "}") == fixed
    assert verdict("sampler", tmp_path / flow_folder.name, tmp_path / "fixed", **fixed).status == "ok"


def test_a_sampler_or_a_number_that_there_is_not_is_refused_as_everywhere(flow_folder, tmp_path):
    folder = shutil.copytree(flow_folder, tmp_path / "flow")
    for index, match in (
        ({"sampler": "foo"}, "sampler is 'foo'"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
    ):
        edit_json(folder / "model_index.json", **({"sampler": "unipc", "num_inference_steps": 10} | index))
        for read in (diagnose_folder, read_checkpoint):
            with pytest.raises(CheckpointError, match=match):
                read(folder)


def test_an_index_that_loads_a_flow_as_betas_is_accused_and_one_of_the_same_path_is_not(
    flow_folder, ldm_folder, tmp_path
):
    found = verdict("scheduler_class", flow_folder, tmp_path, scheduler=["diffusers", "DDPMScheduler"])
    assert (found.status, found.severity) == ("suspect", 3)
    assert found.fix == 'model_index.json: "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]'
    others = {"DDIMScheduler": "ok", "EDMEulerScheduler": "suspect", "SomebodysScheduler": "not run"}
    for listed, status in others.items():
        found = verdict("scheduler_class", ldm_folder, tmp_path / listed, scheduler=["diffusers", listed])
        assert found.status == status


def test_a_scheduler_that_the_index_alone_names_is_not_taken_for_one_that_clips(flow_folder, tmp_path):
    folder = shutil.copytree(flow_folder, tmp_path / "flow")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name[0] != "_"}))
    assert run_check(BY_NAME["clipping"], open_case(folder)).evidence == "clip_sample is off."


def test_steps_that_are_spaced_in_a_way_that_is_not_read_are_not_judged(flow_folder, tmp_path):
    folder = shutil.copytree(flow_folder, tmp_path / "flow")
    edit_json(folder / "scheduler" / "scheduler_config.json", use_karras_sigmas=True)
    found = run_check(BY_NAME["spacing"], open_case(folder))
    assert (found.status, found.evidence) == ("not run", "its steps are spaced by use_karras_sigmas, which is not read")


def test_where_the_network_cannot_tell_what_it_predicts_the_record_of_its_training_does(ldm_folder, tmp_path):
    folder = shutil.copytree(ldm_folder, tmp_path / "untrained")
    config = {"dataset": "fashion_mnist", "schedule": "cosine", "num_timesteps": 1000, "prediction": "v_prediction"}
    (folder / "train_config.json").write_text(json.dumps(config))
    check = BY_NAME["prediction_type"]
    assert run_check(check, open_case(folder)).status == "not run"
    edit_json(folder / "train_config.json", prediction="epsilon")
    found = run_check(check, open_case(folder))
    assert (found.status, found.severity) == ("suspect", 3)
    assert "train_config.json says epsilon; the config says v_prediction" in found.evidence
    assert found.fix == 'scheduler/scheduler_config.json: "prediction_type": "epsilon"'
