"""Checks of model_index.json: the class that it loads the scheduler as, and the sampler that it names."""

import diffusers

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks.settings import CONFIG, name_of
from ldm_explorer.diagnosis.verdicts import Finding, NotRun
from ldm_explorer.files import counted, with_article
from ldm_explorer.run_layout import PIPELINE_FILE, SCHEDULER
from ldm_explorer.samplers import DEFAULT_SAMPLER, samplers_of, takes_evaluations
from ldm_explorer.stored_scheduler import OVER_BETAS, is_of_flow, listed_class


def scheduler_class(case: Case) -> Finding:
    """diffusers takes the class from the index, whatever the scheduler's own file says."""
    listed, own = listed_class(case.folder), case.scheduler_config["_class_name"]
    if not hasattr(diffusers, listed):
        raise NotRun(f"it needs a {PIPELINE_FILE} that lists a scheduler of diffusers")
    evidence = f"{PIPELINE_FILE} loads the scheduler as {with_article(listed)}, and {CONFIG} is that of {own}"
    of_flow = is_of_flow(listed, case.scheduler_config)
    if of_flow == case.is_flow and (of_flow or listed in OVER_BETAS):
        return Finding(f"{evidence}.")
    return Finding(
        f"{evidence}, along {'a flow' if case.is_flow else 'betas'} (should be one along the same).",
        "diffusers samples along another schedule than the scheduler's config holds",
        f'{PIPELINE_FILE}: "{SCHEDULER}": ["diffusers", "{own}"]',
        severity=3,
    )


def sampler_and_steps(case: Case) -> Finding:
    """A student is sampled as it was distilled, any other by a sampler of its schedule, in steps that there are."""
    if case.sampling is None:
        raise NotRun(f"it needs a {PIPELINE_FILE} that says by what it is sampled")
    sampler, num_steps = case.sampling
    evidence = f"{PIPELINE_FILE} samples by {sampler} in {counted(num_steps, 'step')}"
    made_for = case.student
    if made_for and case.sampling != made_for:
        return Finding(
            f"{evidence} (should be {made_for.sampler} in {made_for.num_inference_steps}, as it was distilled).",
            "The student is sampled otherwise than it was distilled",
            f'{PIPELINE_FILE}: "sampler": "{made_for.sampler}", "num_inference_steps": {made_for.num_inference_steps}',
            severity=2,
        )
    known = samplers_of(case.schedule, case.prediction_type)
    if sampler not in known:
        return Finding(
            f"{evidence}, along {name_of(case.schedule)} (should be one of {', '.join(known)}).",
            "The sampler does not walk along this schedule",
            f'{PIPELINE_FILE}: "sampler": "{DEFAULT_SAMPLER}"',
            severity=3,
        )
    most = case.num_timesteps if takes_evaluations(sampler, case.num_timesteps) else case.num_timesteps - 1
    if num_steps > most or not takes_evaluations(sampler, num_steps):
        return Finding(
            f"{evidence} (should be {'an odd number' if num_steps <= most else f'at most {most}'}).",
            "The sampler cannot take that many steps",
            f'{PIPELINE_FILE}: "num_inference_steps": {min(num_steps - 1, most)}',
            severity=3,
        )
    return Finding(f"{evidence}{', as it was distilled' if made_for and case.config.get('evaluations') else ''}.")
