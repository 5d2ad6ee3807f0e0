import inspect

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)
from helpers import build_seeded
from torch import Tensor

from ldm_explorer.denoiser import Denoiser, NetworkDenoiser
from ldm_explorer.models import UNetConfig
from ldm_explorer.samplers import (
    DEFAULT_SAMPLER,
    SAMPLERS,
    denoise,
    draw_noise,
    final_latents,
    make_sampler,
    make_scheduler,
    prediction_types_of,
    set_timesteps,
)
from ldm_explorer.schedules import SCHEDULES, Schedule, make_schedule

MEAN, STD = 0.3, 0.5
OF_BETAS = prediction_types_of(make_schedule("cosine"))
SEEDS = range(128)
SHAPE = (1, 16, 16)

# How far from STD the std may lie with 25 and with 100 evaluations. First-order samplers come out too narrow, and the
# more so the more noise the schedule takes away in its last step (linear most).
STD_TOLERANCES = {
    "dpm++": (0.015, 0.005),
    "unipc": (0.015, 0.005),
    "ddim": (0.06, 0.015),
    "ddpm": (0.11, 0.04),
}
DEFAULT_STD_TOLERANCE = (0.11, 0.04)


class GaussianDenoiser(Denoiser):
    """What a perfect network would have learned from data ~ N(mean, std^2): the posterior mean of z0 given z_t."""

    def __init__(self, schedule: Schedule, prediction_type: str, mean: float = MEAN, std: float = STD):
        super().__init__(prediction_type, schedule, SHAPE, null_class=None)
        self.alpha_bars = schedule.alpha_bars.double()
        self.mean, self.std = mean, std
        self.calls = 0

    def posterior_mean(self, z_t: Tensor, timestep: int) -> Tensor:
        a, b2 = self.alpha_bars[timestep].sqrt(), 1 - self.alpha_bars[timestep]
        gain = a * self.std**2 / (a**2 * self.std**2 + b2)
        return self.mean + gain * (z_t.double() - a * self.mean)

    def forward(self, z_t, timestep, class_labels=None):  # noqa: ARG002
        self.calls += 1
        a, b = self.alpha_bars[int(timestep)].sqrt(), (1 - self.alpha_bars[int(timestep)]).sqrt()
        z0 = self.posterior_mean(z_t, int(timestep))
        eps = (z_t.double() - a * z0) / b
        return {"epsilon": eps, "sample": z0, "v_prediction": a * eps - b * z0}[self.prediction_type].float()


def standard_noise() -> tuple[Tensor, list[torch.Generator]]:
    """Noise whose own mean is 0 and std 1, so that what is left is the sampler's error."""
    noise, generators = draw_noise(SHAPE, SEEDS)
    return (noise - noise.mean()) / noise.std(), generators


def gaussian_steps(sampler: str, schedule_name: str, prediction_type="v_prediction", num_steps=25, **gaussian):
    schedule = make_schedule(schedule_name)
    if gaussian.pop("zero_terminal_snr", False):
        schedule = schedule.with_zero_terminal_snr()
    denoiser = GaussianDenoiser(schedule, prediction_type, **gaussian)
    noise, generators = standard_noise()
    scheduler = make_sampler(sampler, make_scheduler(schedule, prediction_type))
    return denoiser, list(denoise(denoiser, scheduler, noise, num_steps=num_steps, generators=generators))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_exact_denoiser_gives_back_the_gaussian_from_zero_terminal_snr(sampler, schedule):
    _, tolerance = STD_TOLERANCES.get(sampler, DEFAULT_STD_TOLERANCE)
    _, steps = gaussian_steps(sampler, schedule, num_steps=100, zero_terminal_snr=True)
    assert float(steps[-1].z_next.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(steps[-1].z_next.std()) == pytest.approx(STD, abs=tolerance)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_exact_denoiser_gives_back_the_gaussian(sampler, schedule):
    coarse_tolerance, fine_tolerance = STD_TOLERANCES.get(sampler, DEFAULT_STD_TOLERANCE)
    for num_steps, tolerance in ((25, coarse_tolerance), (100, fine_tolerance)):
        denoiser, steps = gaussian_steps(sampler, schedule, num_steps=num_steps)
        assert denoiser.calls == num_steps
        assert float(steps[-1].z_next.mean()) == pytest.approx(MEAN, abs=0.01)
        assert float(steps[-1].z_next.std()) == pytest.approx(STD, abs=tolerance)


@pytest.mark.parametrize("prediction_type", OF_BETAS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_do_not_depend_on_what_the_network_predicts(sampler, prediction_type):
    _, expected = gaussian_steps(sampler, "linear", "v_prediction")
    _, steps = gaussian_steps(sampler, "linear", prediction_type)
    assert torch.allclose(steps[-1].z_next, expected[-1].z_next, atol=2e-3)


@pytest.mark.parametrize("num_steps", [10, 25, 30, 600])
def test_ddim_follows_its_update_rule_at_any_number_of_steps(num_steps):
    """z_s = a_s z0 + b_s eps (Song et al. 2021, eq. 12), by hand in float64 over the timesteps that were visited."""
    denoiser, steps = gaussian_steps("ddim", "cosine", num_steps=num_steps)
    z = standard_noise()[0].double()
    later = [denoiser.alpha_bars[step.timestep] for step in steps[1:]] + [torch.ones((), dtype=torch.float64)]
    for step, alpha_bar_next in zip(steps, later, strict=True):
        alpha_bar = denoiser.alpha_bars[step.timestep]
        z0 = denoiser.posterior_mean(z, step.timestep)
        eps = (z - alpha_bar.sqrt() * z0) / (1 - alpha_bar).sqrt()
        z = alpha_bar_next.sqrt() * z0 + (1 - alpha_bar_next).sqrt() * eps
    assert torch.allclose(steps[-1].z_next.double(), z, atol=2e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_recorded_latents_are_variance_preserving(sampler, schedule):
    """Latents of unit variance keep it at every step, whatever scale a sampler works at inside."""
    _, steps = gaussian_steps(sampler, schedule, num_steps=100, mean=0.0, std=1.0)
    assert float(steps[0].z_t.std()) == pytest.approx(1, abs=1e-3)
    for step in steps:
        assert float(step.z_t.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("prediction_type", OF_BETAS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_recorded_z0_is_what_the_network_meant(sampler, prediction_type):
    denoiser, steps = gaussian_steps(sampler, "linear", prediction_type, num_steps=10)
    for step in steps:
        assert torch.allclose(step.z0.double(), denoiser.posterior_mean(step.z_t, step.timestep), atol=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_steps_are_numbered_and_walk_from_the_last_timestep_to_the_last_z0(sampler):
    _, steps = gaussian_steps(sampler, "cosine", num_steps=10)
    assert [(step.index, step.total) for step in steps] == [(index, 10) for index in range(10)]
    timesteps = [step.timestep for step in steps]
    assert timesteps[0] == 999
    assert timesteps == sorted(set(timesteps), reverse=True)
    assert torch.allclose(steps[-1].z_next, steps[-1].z0, atol=1e-4)


def std_by_hand(sampler: str, denoiser: GaussianDenoiser, timesteps: list[int]) -> float:
    """What becomes of a std of 1 in float64: a step from t to s scales latents, and ancestral ones add their noise.

    DDPM by Ho et al. 2020, eq. 7; the others by DDIM's rule (Song et al. 2021, eq. 12), which those of second order
    follow in their first and last step, and in the limit of many.
    """
    variance = 1.0
    alpha_bars = [float(denoiser.alpha_bars[t]) for t in timesteps]
    for alpha_bar, alpha_bar_next in zip(alpha_bars, [*alpha_bars[1:], 1.0], strict=True):
        a, b2 = alpha_bar**0.5, 1 - alpha_bar
        gain = a * denoiser.std**2 / (alpha_bar * denoiser.std**2 + b2)
        beta = 1 - alpha_bar / alpha_bar_next
        if sampler == "ddpm":
            kept = (1 - alpha_bar_next) / b2
            scale = alpha_bar_next**0.5 * beta / b2 * gain + (1 - beta) ** 0.5 * kept
            variance = scale**2 * variance + kept * beta
        else:
            scale = alpha_bar_next**0.5 * gain + ((1 - alpha_bar_next) / b2) ** 0.5 * (1 - a * gain)
            variance = scale**2 * variance
    return variance**0.5


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_steps", [1, 2, 1000])
def test_the_fewest_and_the_most_steps_work(sampler, num_steps):
    denoiser, steps = gaussian_steps(sampler, "cosine", num_steps=num_steps)
    assert denoiser.calls == num_steps
    assert float(steps[-1].z_next.mean()) == pytest.approx(MEAN, abs=0.02)
    expected = std_by_hand(sampler, denoiser, [step.timestep for step in steps])
    assert float(steps[-1].z_next.std()) == pytest.approx(expected, abs=0.005)
    if num_steps == 1000:
        assert float(steps[-1].z_next.std()) == pytest.approx(STD, abs=0.01)


@pytest.mark.parametrize("num_steps", [-1, 0, 1001])
def test_a_number_of_steps_out_of_range_is_refused(num_steps, tiny_unet):
    scheduler = make_sampler(DEFAULT_SAMPLER, make_scheduler(make_schedule("cosine"), "v_prediction"))
    steps = denoise(tiny(tiny_unet), scheduler, torch.zeros(1, 4, 8, 8), torch.tensor([0]), num_steps=num_steps)
    with pytest.raises(ValueError, match="1 to 1000"):
        final_latents(steps)


@pytest.mark.parametrize("schedule_name", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_shares_the_trained_schedule_and_clips_nothing(sampler, schedule_name, tmp_path):
    schedule = make_schedule(schedule_name, 500)
    make_scheduler(schedule, "v_prediction").save_pretrained(tmp_path)
    built = make_sampler(sampler, DDPMScheduler.from_pretrained(tmp_path))
    assert torch.equal(built.alphas_cumprod, schedule.alpha_bars)
    assert built.config.num_train_timesteps == 500
    assert built.config.prediction_type == "v_prediction"
    assert built.config.timestep_spacing == "trailing"
    assert not built.config.get("clip_sample", False)
    assert not built.config.get("thresholding", False)


def test_every_run_gets_its_own_sampler():
    scheduler = make_scheduler(make_schedule("cosine"), "v_prediction")
    for name in SAMPLERS:
        assert make_sampler(name, scheduler) is not make_sampler(name, scheduler)


def test_an_unknown_sampler_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no_such.*dpm\+\+"):
        make_sampler("no_such", make_scheduler(make_schedule("cosine"), "v_prediction"))


def tiny(unet) -> Denoiser:
    return NetworkDenoiser(unet, "v_prediction", make_schedule("cosine"))


def run_tiny(unet, sampler, seeds, labels, **options):
    scheduler = make_sampler(sampler, make_scheduler(make_schedule("cosine"), "v_prediction"))
    noise, generators = draw_noise((4, 8, 8), seeds)
    labels = None if labels is None else torch.tensor(labels)
    options = {"num_steps": 5, "generators": generators} | options
    denoiser = unet if isinstance(unet, Denoiser) else tiny(unet)
    return list(denoise(denoiser, scheduler, noise, labels, **options))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_depends_on_its_own_seed_alone(sampler, tiny_unet):
    together = run_tiny(tiny_unet, sampler, [11, 12, 13], [1, 2, 3])[-1].z_next
    swapped = run_tiny(tiny_unet, sampler, [13, 11], [3, 1])[-1].z_next
    alone = run_tiny(tiny_unet, sampler, [12], [2])[-1].z_next
    assert torch.allclose(together[[2, 0]], swapped, rtol=0, atol=1e-5)
    assert torch.allclose(together[[1]], alone, rtol=0, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=0.1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_global_generator_plays_no_part(sampler, tiny_unet):
    torch.manual_seed(0)
    first = run_tiny(tiny_unet, sampler, [5], [1])[-1].z_next
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(run_tiny(tiny_unet, sampler, [5], [1])[-1].z_next, first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guidance_1_is_no_guidance_and_guidance_0_ignores_the_label(sampler, tiny_unet):
    without_null_class = tiny(tiny_unet)
    without_null_class.null_class = None
    plain = run_tiny(without_null_class, sampler, [5, 6], [1, 2])[-1].z_next
    null = run_tiny(tiny_unet, sampler, [5, 6], [10, 10])[-1].z_next
    assert torch.equal(run_tiny(tiny_unet, sampler, [5, 6], [1, 2], guidance_scale=1.0)[-1].z_next, plain)
    almost = run_tiny(tiny_unet, sampler, [5, 6], [1, 2], guidance_scale=1.0001)[-1].z_next
    assert torch.allclose(almost, plain, atol=1e-2)
    assert torch.allclose(run_tiny(tiny_unet, sampler, [5, 6], [1, 2], guidance_scale=0.0)[-1].z_next, null, atol=1e-5)
    assert not torch.allclose(plain, null, atol=1e-2)


def test_guidance_walks_on_along_the_difference_that_the_label_makes(tiny_unet):
    labelled = run_tiny(tiny_unet, "ddim", [5], [1])[0].z0
    null = run_tiny(tiny_unet, "ddim", [5], [10])[0].z0
    guided = run_tiny(tiny_unet, "ddim", [5], [1], guidance_scale=3.0)[0].z0
    assert torch.allclose(guided, null + 3 * (labelled - null), atol=1e-4)


@pytest.mark.parametrize(("labels", "num_classes"), [(None, 10), ([1], 0)])
def test_guidance_without_labels_or_null_class_is_refused(labels, num_classes):
    unet = build_seeded(UNetConfig(8, 4, num_classes, widths=(16, 32), layers_per_block=1))
    with pytest.raises(ValueError, match="guidance needs class labels"):
        run_tiny(unet, DEFAULT_SAMPLER, [5], labels, guidance_scale=2.0)


def test_noise_is_standard_normal_and_repeats_by_seed():
    noise, generators = draw_noise((4, 8, 8), range(64))
    assert (noise.shape, len(generators)) == ((64, 4, 8, 8), 64)
    assert float(noise.mean()) == pytest.approx(0, abs=0.03)
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    assert torch.equal(noise[7], draw_noise((4, 8, 8), [7])[0][0])


def test_denoising_is_lazy():
    """A watcher that stops early pays only for what it saw."""
    denoiser = GaussianDenoiser(make_schedule("cosine"), "v_prediction")
    scheduler = make_sampler(DEFAULT_SAMPLER, make_scheduler(make_schedule("cosine"), "v_prediction"))
    steps = denoise(denoiser, scheduler, torch.randn(1, *SHAPE), num_steps=10)
    assert inspect.isgenerator(steps)
    next(steps)
    assert denoiser.calls == 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_number_of_steps_takes_that_many_and_ends_before_t_zero_is_passed(sampler):
    scheduler = make_scheduler(make_schedule("linear"), "epsilon")
    for num_steps in [*range(1, 251), 399, 400, 1000]:
        walked = make_sampler(sampler, scheduler)
        set_timesteps(walked, num_steps)
        timesteps = walked.timesteps.tolist()
        assert len(timesteps) == num_steps
        assert timesteps[0] == 999
        assert timesteps == sorted(set(timesteps), reverse=True)
        assert timesteps[-1] >= 0


@pytest.mark.parametrize(
    "sampler", [EDMEulerScheduler(), HeunDiscreteScheduler(), FlowMatchEulerDiscreteScheduler(), PNDMScheduler(), None]
)
def test_a_scheduler_that_is_no_sampler_of_this_kind_is_refused(tiny_unet, sampler):
    """Some of them would give numbers, and wrong ones."""
    with pytest.raises(TypeError, match=f"{type(sampler).__name__} is no sampler along betas that is known here"):
        next(denoise(tiny(tiny_unet), sampler, torch.zeros(1, 4, 8, 8), torch.tensor([0]), num_steps=2))
