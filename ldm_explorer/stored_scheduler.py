"""The schedule and the prediction type that a folder's scheduler stores; schedulers are known by their class."""

import inspect
from collections.abc import Mapping
from pathlib import Path

import diffusers
from diffusers import DDPMScheduler, SchedulerMixin

from ldm_explorer.files import CheckpointError, first_line, printable, read_json, shown, with_article
from ldm_explorer.run_files import BetasConfig, SchedulerConfig, read_scheduler_config
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import PIPELINE_FILE, SCHEDULER, SCHEDULER_FILE
from ldm_explorer.samplers import FLOW_PREDICTION, OF_BETAS, OF_FLOWS, make_scheduler
from ldm_explorer.schedules import DEFAULT_NUM_TIMESTEPS, FlowSchedule

OVER_BETAS = frozenset(
    {
        *("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler"),
        *("PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
        *("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
        *("DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler", "DPMSolverSinglestepScheduler"),
        *("DPMSolverSDEScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler", "SASolverScheduler"),
        *("LCMScheduler", "TCDScheduler"),
    }
)
"""diffusers' schedulers along betas of z_t = sqrt(abar) z0 + sqrt(1 - abar) eps. Others have sigmas of their own, and
fields of the same names that mean something else: num_train_timesteps above all."""
FLOW_MATCHING = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
"""Those along the straight line of a flow; some of the others are, with `use_flow_sigmas`."""
_READ = (
    "DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler and others along betas, FlowMatchEulerDiscreteScheduler"
)
ONLY_DDPM_KNOWS = ("sigmoid", "laplace")
"""Values of beta_schedule; samplers made of such a config are given the betas."""


def load_scheduler(folder: Path) -> SchedulerMixin:
    """The schedule and the prediction type of any diffusers scheduler over betas or along a flow, in the class that
    `make_scheduler` gives it. Raises `CheckpointError`."""
    config, path = read_named_config(folder), f"{printable(folder)}/{SCHEDULER}"
    if not config:
        raise CheckpointError(f"{printable(folder)} has a denoiser but no {SCHEDULER_FILE}")
    name = config["_class_name"]
    if is_of_flow(name, config):
        return _along_a_flow(config, name, path)
    if name not in OVER_BETAS:
        kind = with_article(name) if name else "a scheduler without a name"
        raise CheckpointError(f"{path} is {kind}: it has no betas to check; read are {_READ}")
    _check_prediction(config.get("prediction_type", "epsilon"), OF_BETAS, path)
    try:
        scheduler = DDPMScheduler.from_config(_defaults(name) | _known(config))
        if scheduler.config.beta_schedule in ONLY_DDPM_KNOWS and scheduler.config.trained_betas is None:
            betas = {"beta_schedule": "linear", "trained_betas": scheduler.betas.tolist()}
            scheduler = DDPMScheduler.from_config(scheduler.config, **betas)
        return scheduler
    except Exception as error:  # whatever a setting that nobody foresaw makes diffusers raise
        raise CheckpointError(f"{path} cannot be read: {first_line(error)}") from error


def is_of_flow(name: str, config: SchedulerConfig) -> bool:
    """Whether diffusers' class of that name walks along a flow with this config.

    Others keep the field where they were made of a config that has it, and walk along betas all the same.
    """
    asked = name in OVER_BETAS and bool(config.get("use_flow_sigmas")) and "use_flow_sigmas" in _parameters(name)
    return name in FLOW_MATCHING or asked


def _along_a_flow(config: SchedulerConfig, name: str, path: str) -> SchedulerMixin:
    """Of its steps only the shift is read; where they lie is the samplers' matter."""
    if config.get("use_dynamic_shifting"):
        raise CheckpointError(
            f"{path} shifts its steps by the size of the image (use_dynamic_shifting), which is not read: write the "
            'shift of this size there, and "use_dynamic_shifting": false'
        )
    if config.get("invert_sigmas"):
        raise CheckpointError(f"{path} has data at s = 1 (invert_sigmas): read are flows with data at s = 0")
    schedule = FlowSchedule(config.get("num_train_timesteps", DEFAULT_NUM_TIMESTEPS))
    kind = FLOW_PREDICTION if name in FLOW_MATCHING else config.get("prediction_type", "epsilon")
    known = {FLOW_PREDICTION if own == "flow" else own: own for own in OF_FLOWS}
    _check_prediction(kind, tuple(known), path)
    shift = config.get("shift") if name in FLOW_MATCHING else config.get("flow_shift")
    return make_scheduler(schedule, known[kind], shift or 1.0)


def _check_prediction(kind: str, known: tuple[str, ...], path: str) -> None:
    if kind not in known:
        raise CheckpointError(f"{path} predicts {shown(kind)}: known are {', '.join(known)}")


def read_named_config(folder: Path) -> SchedulerConfig:
    """scheduler_config.json with a class: that of its own file, else of the index, "" where neither says it.

    {} where there is none.
    """
    config = read_scheduler_config(folder)
    return config and {**config, "_class_name": config.get("_class_name") or listed_class(folder)}


def listed_class(folder: Path) -> str:
    """The class by which a pipeline of diffusers loads the scheduler, as its index lists it, "" where it does not."""
    index = read_json(folder / PIPELINE_FILE) if RunFolder(folder).has(PIPELINE_FILE) else {}
    listed = index.get(SCHEDULER)
    name = listed[-1] if isinstance(listed, list) and listed else ""
    return name if isinstance(name, str) else ""


def _known(config: SchedulerConfig) -> dict:
    known = {name: value for name, value in config.items() if name in BetasConfig.__annotations__}
    return {name: value for name, value in known.items() if value is not None or name == "trained_betas"}


def _defaults(class_name: str) -> dict:
    """What a field that is not stored stands for in that class; none but DDPM and DDIM clip."""
    stored = {name: parameter.default for name, parameter in _parameters(class_name).items() if name != "self"}
    return {"clip_sample": False, "thresholding": False} | _known(stored)  # type: ignore[arg-type]


def _parameters(class_name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(getattr(diffusers, class_name).__init__).parameters
