"""How a checkpoint is sampled where nobody says otherwise, as its model_index.json tells diffusers, too."""

from typing import NamedTuple

from ldm_explorer.files import CheckpointError, printable, shown
from ldm_explorer.model_folder import ModelFolder
from ldm_explorer.run_files import read_pipeline_index
from ldm_explorer.run_layout import PIPELINE_FILE
from ldm_explorer.samplers import ALL_SAMPLERS, DEFAULT_NUM_STEPS, DEFAULT_SAMPLER, SamplerName


class SamplerSteps(NamedTuple):
    """A sampler and its steps, by the names that pipelines take them under."""

    sampler: SamplerName
    num_inference_steps: int

    def given(self, sampler: SamplerName | None, num_inference_steps: int | None) -> "SamplerSteps":
        """These, but for what is given."""
        return SamplerSteps(sampler or self.sampler, num_inference_steps or self.num_inference_steps)


DEFAULT_STEPS = SamplerSteps(DEFAULT_SAMPLER, DEFAULT_NUM_STEPS)
"""What a folder that says nothing of it is sampled by."""


def default_steps(num_timesteps: int) -> SamplerSteps:
    """How a denoiser along a schedule of so many timesteps is sampled: it takes no more steps than there are."""
    return SamplerSteps(DEFAULT_SAMPLER, min(DEFAULT_NUM_STEPS, num_timesteps))


def steps_of_student(evaluations: int) -> SamplerSteps:
    """How a student is sampled: one evaluation a step of DDIM."""
    return SamplerSteps("ddim", evaluations)


def read_sampler_steps(model: ModelFolder) -> SamplerSteps:
    """A student has its own. Raises `CheckpointError` for a sampler that is not known here."""
    index = read_pipeline_index(model.folder) if model.is_ours else {}
    found = SamplerSteps(index.get("sampler", DEFAULT_SAMPLER), index.get("num_inference_steps", DEFAULT_NUM_STEPS))
    if found.sampler not in ALL_SAMPLERS:
        raise CheckpointError(
            f"{printable(model.folder / PIPELINE_FILE)}: sampler is {shown(found.sampler)}, should be one of "
            f"{', '.join(ALL_SAMPLERS)}"
        )
    return found
