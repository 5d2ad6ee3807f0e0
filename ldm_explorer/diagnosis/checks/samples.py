"""The check of what the denoiser generates: is it spread like the data?"""

from torch import Tensor

from ldm_explorer.diagnosis.case import SAMPLING_STEPS, Case
from ldm_explorer.diagnosis.checks.settings import walks_every_step
from ldm_explorer.diagnosis.known import OWN_SAMPLES
from ldm_explorer.diagnosis.power_spectrum import ENOUGH, spectrum_floor
from ldm_explorer.diagnosis.verdicts import ASK_FOR_IMAGES, Finding, NotRun
from ldm_explorer.files import counted

SPREAD = (0.75, 1.3)
DISTANCE = (0.5, 2.0)
"""Of the shipped denoisers none is below .77 or beyond 1.4, in 10 steps or 50; one whose weights are shuffled is beyond
3, one of a flow whose steps lie almost all where next to nothing but noise is below .4."""
LATENTS_PER_VALUE = 3
MANY_STEPS = 50
NO_NAME = "no other check names the reason: sample with more steps, and train longer"
OF_A_STUDENT = "take the weights that its training wrote, or distil it again by train/distill.py"
MIN_SIGNAL = 0.01
"""Share of the variance, below which nobody can do much."""
WELL_ABOVE = 1.5


def spread_of_samples(case: Case) -> Finding:
    """The standard deviation of generated latents against 1 and against that of known ones, of images that of those,
    and how far they lie in the directions that the training latents have."""
    known = case.known_latents()
    wanted = [] if known.source == OWN_SAMPLES else [float(known.z0.std())]
    wanted += [1.0] if case.has_latent_statistics else []
    counts = (SAMPLING_STEPS, MANY_STEPS) if case.student is None else (case.student.num_inference_steps,)
    for num_steps in counts:  # few may not be enough where all is well
        samples = case.sampled_latents(case.prediction_type, num_steps).z0
        std, in_steps = float(samples.std()), counted(num_steps, "step")
        evidence = f"{counted(len(samples), 'sample')} in {in_steps} have a standard deviation of {std:.2f}"
        if not wanted:
            raise NotRun(f"{evidence}; to compare them with images, {ASK_FOR_IMAGES}")
        should = f"should be {' or '.join(dict.fromkeys(f'{value:.2f}' for value in wanted))}"
        distance = _distance(case, samples)
        if distance is not None:
            evidence += f" and a mean squared Mahalanobis distance of {distance:.2f}"
            should += f" and 1, within {DISTANCE[0]:g} and {DISTANCE[1]:g}"
        is_far = distance is not None and not DISTANCE[0] < distance < DISTANCE[1]
        if SPREAD[0] * min(wanted) < std < SPREAD[1] * max(wanted) and not is_far:
            return Finding(f"{evidence} ({should}).")
    evidence = f"{evidence} ({should})"
    if walks_every_step(case):  # a small error of epsilon leads few steps astray, and not many that add noise
        steps = f"its own scheduler walks all {case.num_timesteps}, which may do better"
        raise NotRun(
            f"{evidence}, and {steps}",
            doubt=f"what it samples in {in_steps} is spread wrongly (standard deviation {std:.2f}, {should}): "
            f"too little training is a common cause{_what_is_known_of_it(case)}; {steps}",
        )
    fix = OF_A_STUDENT if case.student else NO_NAME
    return Finding(f"{evidence}.", "Samples have another spread than the data", fix, severity=2)


def _distance(case: Case, samples: Tensor) -> float | None:
    """What shows noise of the right size that has no form; None where no covariance of the latents was kept, or one of
    so few that others lie outside of it: D values of N latents put others at N / (N - D - 1)."""
    kept = case.statistics
    if kept is None or kept.covariance is None or kept.subset.mean.shape[1:] != samples.shape[1:]:
        return None
    if len(kept.subset.mean) < LATENTS_PER_VALUE * len(kept.mean):
        return None
    return kept.mahalanobis(samples)


def _what_is_known_of_it(case: Case) -> str:
    """Of a network that learned well no error is far above what the power spectrum of its images gives."""
    known = case.stored_latents
    if known is None or len(known.z0) < ENOUGH:
        return ", which these checks cannot see"
    amplitudes = case.amplitudes[case.timesteps]
    over = case.losses[case.prediction_type] / spectrum_floor(case.prediction_type, amplitudes, known.z0)
    worst = int(over.where(amplitudes.signal_share > MIN_SIGNAL, over.new_zeros(())).argmax())
    if not float(over[worst]) > WELL_ABOVE:
        return ", which these checks cannot see"
    return (
        f", and at t = {case.timesteps[worst]} its error is {float(over[worst]):.1f} times what the mean and the power "
        f"spectrum of {known.source} alone give"
    )
