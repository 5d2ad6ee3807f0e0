import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr
from diffusers.training_utils import compute_snr

from ldm_explorer.run_files import trained_schedule
from ldm_explorer.schedules import (
    DEFAULT_BETA_END,
    DEFAULT_BETA_START,
    SCHEDULES,
    STABLE_DIFFUSION_BETAS,
    make_schedule,
)

DIFFUSERS_NAMES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


@pytest.mark.parametrize("num_timesteps", [20, 1000])
@pytest.mark.parametrize("beta_range", [(DEFAULT_BETA_START, DEFAULT_BETA_END), STABLE_DIFFUSION_BETAS])
@pytest.mark.parametrize(("name", "diffusers_name"), DIFFUSERS_NAMES.items())
def test_betas_and_alpha_bars_are_those_of_diffusers(name, diffusers_name, beta_range, num_timesteps):
    ours = make_schedule(name, num_timesteps, *beta_range)
    theirs = DDPMScheduler(num_timesteps, *beta_range, beta_schedule=diffusers_name)
    assert torch.equal(ours.betas, theirs.betas)
    assert torch.equal(ours.alphas, theirs.alphas)
    assert torch.equal(ours.alpha_bars, theirs.alphas_cumprod)
    assert torch.allclose(ours.snr, compute_snr(theirs, torch.arange(num_timesteps)), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "beta_range", "terminal_alpha_bar"),
    [
        ("linear", (1e-4, 0.02), 4.0e-5),
        ("scaled_linear", STABLE_DIFFUSION_BETAS, 4.66e-3),
        ("cosine", (1e-4, 0.02), 2.4e-9),
    ],
)
def test_the_last_alpha_bar_has_its_known_value(name, beta_range, terminal_alpha_bar):
    schedule = make_schedule(name, 1000, *beta_range)
    assert float(schedule.alpha_bars[-1]) == pytest.approx(terminal_alpha_bar, rel=0.02)


@pytest.mark.parametrize("num_timesteps", [2, 10, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_takes_signal_away_at_every_step(name, num_timesteps):
    schedule = make_schedule(name, num_timesteps)
    assert schedule.betas.shape == (num_timesteps,)
    assert schedule.betas.dtype == torch.float32
    assert schedule.num_timesteps == num_timesteps
    assert ((schedule.betas > 0) & (schedule.betas < 1)).all()
    assert ((schedule.alpha_bars > 0) & (schedule.alpha_bars < 1)).all()
    assert (schedule.alpha_bars.diff() < 0).all()
    assert (schedule.snr.diff() < 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_at_the_half_step_noise_overtakes_signal(name):
    schedule = make_schedule(name)
    half = schedule.half_step
    assert schedule.alpha_bars[half] < 0.5 <= schedule.alpha_bars[half - 1]
    assert schedule.snr[half] < 1 <= schedule.snr[half - 1]


def test_a_schedule_that_stays_above_one_half_has_no_half_step():
    schedule = make_schedule("linear", 10, 1e-4, 1e-3)
    assert schedule.alpha_bars[-1] > 0.5
    assert schedule.half_step is None


@pytest.mark.parametrize("name", SCHEDULES)
def test_zero_terminal_snr_is_that_of_diffusers_and_keeps_the_first_step(name):
    schedule = make_schedule(name)
    rescaled = schedule.with_zero_terminal_snr()
    assert rescaled.alpha_bars[-1] == 0
    assert rescaled.alpha_bars[0] == pytest.approx(float(schedule.alpha_bars[0]), rel=1e-6)
    assert torch.allclose(rescaled.betas, rescale_zero_terminal_snr(schedule.betas), atol=1e-4)
    assert (rescaled.alpha_bars.diff() < 0).all()


def test_the_cosine_schedule_ignores_the_beta_range():
    assert torch.equal(make_schedule("cosine", 50).betas, make_schedule("cosine", 50, 0.1, 0.2).betas)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no_such",), "no_such.*linear"),
        (("linear", 1), "at least 2"),
        (("linear", 10**11), "at most 10000"),
        (("linear", 1000, 0.0, 0.02), "0 < beta_start"),
        (("linear", 1000, 0.02, 0.01), "0 < beta_start"),
        (("linear", 1000, 0.02, 1.0), "0 < beta_start"),
    ],
)
def test_bad_options_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        make_schedule(*arguments)


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_s_schedule_is_made_from_its_options(name, zero_terminal_snr):
    options = {"schedule": name, "num_timesteps": 50, "zero_terminal_snr": zero_terminal_snr}
    expected = make_schedule(name, 50)
    expected = expected.with_zero_terminal_snr() if zero_terminal_snr else expected
    assert torch.equal(trained_schedule(options).betas, expected.betas)


def test_a_run_from_before_an_option_had_its_default_and_one_without_a_schedule_is_refused():
    assert torch.equal(trained_schedule({"schedule": "linear"}).betas, make_schedule("linear").betas)
    with pytest.raises(ValueError, match="unknown schedule ''"):
        trained_schedule({})
