"""Schedulers of folders are known by their class: betas are read where it has them, and made up nowhere."""

import json

import diffusers
import pytest
import torch
from diffusers import DDPMScheduler
from folder_edits import edit_json

from ldm_explorer.files import CheckpointError
from ldm_explorer.samplers import (
    FLOW_SAMPLERS,
    SAMPLERS,
    make_sampler,
    own_schedule,
    prediction_type_of,
    set_timesteps,
    shift_of,
)
from ldm_explorer.schedules import FlowSchedule
from ldm_explorer.stored_scheduler import FLOW_MATCHING, OVER_BETAS, load_scheduler


def stored(folder, scheduler) -> DDPMScheduler:
    scheduler.save_pretrained(folder / "scheduler")
    return load_scheduler(folder)


@pytest.mark.parametrize("name", sorted(OVER_BETAS - {"DPMSolverSDEScheduler"}))  # that one needs another library
def test_the_betas_of_every_scheduler_along_betas_are_its_own(tmp_path, name):
    scheduler = getattr(diffusers, name)(num_train_timesteps=50, beta_schedule="scaled_linear", beta_end=0.012)
    read = stored(tmp_path, scheduler)
    assert torch.equal(read.betas, scheduler.betas)
    assert read.config.clip_sample == scheduler.config.get("clip_sample", False), "only some classes clip at all"


@pytest.mark.parametrize("name", ["sigmoid", "laplace"])
def test_betas_that_ddpm_alone_knows_reach_every_sampler(tmp_path, name):
    scheduler = DDPMScheduler(num_train_timesteps=50, beta_schedule=name)
    read = stored(tmp_path, scheduler)
    for sampler in SAMPLERS:
        assert torch.allclose(make_sampler(sampler, read).betas, scheduler.betas)


OTHERS = (
    "EDMEulerScheduler",
    "EDMDPMSolverMultistepScheduler",
    "ScoreSdeVeScheduler",
    "CMStochasticIterativeScheduler",
    "IPNDMScheduler",
    "FlowMatchLCMScheduler",
    "RePaintScheduler",
    "CogVideoXDDIMScheduler",
)
"""Most have num_train_timesteps or trained_betas among their options, too."""


@pytest.mark.parametrize("name", OTHERS)
def test_another_scheduler_is_named_and_nothing_is_made_up(tmp_path, name):
    with pytest.raises(CheckpointError, match=f"scheduler is an? {name}: it has no betas to check; read are DDPMSch"):
        stored(tmp_path, getattr(diffusers, name)())


def test_a_velocity_of_one_path_is_refused_along_the_other(tmp_path):
    with pytest.raises(CheckpointError, match="predicts 'flow_prediction': known are epsilon, v_prediction, sample"):
        stored(tmp_path, diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction"))
    with pytest.raises(CheckpointError, match="predicts 'v_prediction': known are flow_prediction, epsilon, sample"):
        stored(tmp_path, diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="v_prediction"))


SOLVERS = ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler", "DEISMultistepScheduler", "SASolverScheduler")


@pytest.mark.parametrize("prediction", ["flow_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_with_flow_sigmas_is_along_a_flow(tmp_path, name, prediction):
    options = {"num_train_timesteps": 50, "use_flow_sigmas": True, "prediction_type": prediction, "flow_shift": 3.0}
    read = stored(tmp_path, getattr(diffusers, name)(**options))
    assert own_schedule(read) == FlowSchedule(50)
    assert prediction_type_of(read) == prediction.removesuffix("_prediction")
    assert shift_of(read) == 3
    assert type(read).__name__ in ("FlowMatchEulerDiscreteScheduler", "DPMSolverMultistepScheduler")


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler"])
def test_flow_sigmas_that_a_class_does_not_know_make_no_flow(tmp_path, name):
    """Made of the config of another, it keeps the field and walks along its betas all the same."""
    flow = diffusers.DPMSolverMultistepScheduler(num_train_timesteps=50, use_flow_sigmas=True)
    scheduler = getattr(diffusers, name).from_config(flow.config)
    assert scheduler.config.get("use_flow_sigmas"), "diffusers drops it by now"
    assert torch.equal(stored(tmp_path, scheduler).betas, scheduler.betas)


@pytest.mark.parametrize("name", FLOW_MATCHING)
def test_a_shift_of_a_flow_reaches_every_sampler(tmp_path, name):
    scheduler = getattr(diffusers, name)(num_train_timesteps=50, shift=3.0)
    read = stored(tmp_path, scheduler)
    assert (own_schedule(read), prediction_type_of(read), shift_of(read)) == (FlowSchedule(50), "flow", 3)
    for sampler in FLOW_SAMPLERS:
        used = make_sampler(sampler, read)
        set_timesteps(used, 9)
        assert float(used.timesteps[len(used.timesteps) // 2]) > 0.7 * 50


def test_what_nobody_knows_of_a_flow_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"by the size of the image \(use_dynamic_shifting\), which is not read"):
        stored(tmp_path, diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))
    with pytest.raises(
        CheckpointError, match=r"has data at s = 1 \(invert_sigmas\): read are flows with data at s = 0"
    ):
        stored(tmp_path, diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True))
    diffusers.FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "scheduler")
    edit_json(tmp_path / "scheduler" / "scheduler_config.json", shift=0.0)
    with pytest.raises(CheckpointError, match="shift"):
        load_scheduler(tmp_path)


def test_a_class_that_its_own_file_lacks_is_that_of_the_index(tmp_path):
    scheduler = diffusers.EDMEulerScheduler()
    scheduler.save_pretrained(tmp_path / "scheduler")
    path = tmp_path / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name[0] != "_"}))
    with pytest.raises(CheckpointError, match="is a scheduler without a name: it has no betas"):
        load_scheduler(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"scheduler": ["diffusers", "EDMEulerScheduler"]}))
    with pytest.raises(CheckpointError, match="is an EDMEulerScheduler: it has no betas"):
        load_scheduler(tmp_path)
    edit_json(tmp_path / "model_index.json", scheduler=["diffusers", "DDPMScheduler"])
    assert len(load_scheduler(tmp_path).betas) == 1000


def test_what_a_file_leaves_out_is_the_default_of_its_class(tmp_path):
    (tmp_path / "scheduler").mkdir()
    path = tmp_path / "scheduler" / "scheduler_config.json"
    for name in ("PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler"):
        path.write_text(json.dumps({"_class_name": name, "num_train_timesteps": 20}))
        whole = getattr(diffusers, name)(num_train_timesteps=20)
        read = load_scheduler(tmp_path)
        assert torch.equal(read.betas, whole.betas)
        assert read.config.timestep_spacing == whole.config.timestep_spacing
        assert read.config.clip_sample == whole.config.get("clip_sample", False)
