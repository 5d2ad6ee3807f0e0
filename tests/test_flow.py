"""Rectified flow: z = (1 - s) z0 + s eps, its velocity u = eps - z0, and the samplers that walk along it."""

import logging
import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ldm_explorer.denoiser import Denoiser
from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.prediction import add_noise, target, to_eps, to_z0
from ldm_explorer.samplers import (
    FLOW_SAMPLERS,
    SAMPLERS,
    denoise,
    draw_noise,
    final_latents,
    make_sampler,
    make_scheduler,
    own_schedule,
    prediction_type_of,
    prediction_types_of,
    samplers_of,
    set_timesteps,
    shift_of,
    takes_evaluations,
)
from ldm_explorer.schedules import FLOW, SCHEDULES, BetaSchedule, FlowSchedule, make_schedule, schedule_named

MEAN, STD, SHAPE = 0.3, 0.5, (1, 16, 16)
SCHEDULE = FlowSchedule(1000)
VELOCITY_SAMPLERS = ("euler", "heun")
ALLOWED = [
    (name, prediction) for name in (*SCHEDULES, FLOW) for prediction in prediction_types_of(schedule_named(name, 1000))
]


class ExactGaussian(Denoiser):
    """Knows that the data are N(mean, std^2), along any schedule."""

    def __init__(self, schedule, prediction_type: str, mean: float = MEAN, std: float = STD):
        super().__init__(prediction_type, schedule, SHAPE, null_class=None)
        self.mean, self.std, self.told = mean, std, []

    def forward(self, z_t: Tensor, timestep, class_labels=None) -> Tensor:  # noqa: ARG002
        self.told.append(float(timestep))
        mixed = self.schedule.at(timestep).map(Tensor.double)
        gain = mixed.a * self.std**2 / (mixed.a**2 * self.std**2 + mixed.b**2)
        z0 = self.mean + gain * (z_t.double() - mixed.a * self.mean)
        eps = (z_t.double() - mixed.a * z0) / mixed.b
        return target(self.prediction_type, z0, eps, mixed).float()


def noise(count: int = 128) -> Tensor:
    """Of mean 0 and std 1, so that what is left is the sampler's error."""
    drawn, _ = draw_noise(SHAPE, range(count))
    return (drawn - drawn.mean()) / drawn.std()


def sample(sampler: str, prediction: str, num_steps: int, schedule=SCHEDULE) -> Tensor:
    steps = denoise(
        ExactGaussian(schedule, prediction),
        make_sampler(sampler, make_scheduler(schedule, prediction)),
        noise(),
        num_steps=num_steps,
    )
    return final_latents(steps)


def test_noise_is_that_of_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler(1000)
    z0, eps = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0)).unbind()
    timesteps = scheduler.timesteps[[0, 250, 500, 999]]
    assert torch.allclose(
        add_noise(z0, eps, SCHEDULE.at(timesteps)), scheduler.scale_noise(z0, timesteps, eps), atol=1e-6
    )


def test_the_velocity_is_the_derivative_of_the_path():
    z0, eps = torch.randn(2, 1, 4, dtype=torch.float64).unbind()
    s = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda s: (1 - s) * z0 + s * eps, s)
    assert torch.allclose(target("flow", z0, eps, SCHEDULE.at(400.0)), jacobian)


@pytest.mark.parametrize("prediction", prediction_types_of(SCHEDULE))
def test_a_perfect_prediction_gives_back_z0_and_eps(prediction):
    z0, eps = torch.randn(2, 5, 3, 2, 2, generator=torch.Generator().manual_seed(0)).unbind()
    mixed = SCHEDULE.at(torch.tensor([1.0, 250.5, 500.0, 900.0, 990.0]))
    z_t, y = add_noise(z0, eps, mixed), target(prediction, z0, eps, mixed)
    assert torch.allclose(to_z0(prediction, y, z_t, mixed), z0, atol=1e-3)
    assert torch.allclose(to_eps(prediction, y, z_t, mixed), eps, atol=1e-3)


def test_the_white_floor_is_pi_half_times_the_std_of_the_latents():
    """Averaged over uniform time: the integral of lambda / ((1 - s)^2 lambda + s^2) over s is pi / 2 sqrt(lambda)."""
    for std in (0.5, 1.0, 2.0):
        floors = loss_floors("flow", FlowSchedule(10_000).amplitudes, torch.full((4,), std**2))
        assert float(floors.white.mean()) == pytest.approx(math.pi / 2 * std, rel=1e-3)


@pytest.mark.parametrize(("name", "prediction"), ALLOWED)
def test_the_floor_of_the_covariance_is_what_an_exact_denoiser_reaches(name, prediction):
    schedule, generator = schedule_named(name, 1000), torch.Generator().manual_seed(0)
    steps = torch.linspace(40, 990, 6).long()
    denoiser = ExactGaussian(schedule, prediction, mean=0.0)
    reached = []
    for timestep in schedule.timesteps[steps]:
        z0, eps = STD * torch.randn(200, *SHAPE, generator=generator), torch.randn(200, *SHAPE, generator=generator)
        mixed = schedule.at(timestep)
        error = denoiser(add_noise(z0, eps, mixed), timestep) - target(prediction, z0, eps, mixed)
        reached.append(error.square().mean())
    floors = loss_floors(prediction, schedule.amplitudes[steps], torch.full((4,), STD**2))
    assert torch.allclose(torch.stack(reached), floors.gaussian, rtol=0.025)
    assert float(torch.stack(reached).mean()) == pytest.approx(float(floors.gaussian.mean()), rel=0.01)


TOLERANCES = {"euler": (0.065, 0.02), "heun": (0.03, 0.005), "dpm++": (0.015, 0.005), "unipc": (0.015, 0.005)}
"""How far from its std the Gaussian may come out with 25 and with 101 evaluations: Euler's method is of first order."""


@pytest.mark.parametrize("sampler", FLOW_SAMPLERS)
@pytest.mark.parametrize("prediction", prediction_types_of(SCHEDULE))
def test_an_exact_denoiser_gives_back_the_gaussian(sampler, prediction):
    if sampler in VELOCITY_SAMPLERS and prediction != "flow":
        with pytest.raises(ValueError, match="takes the flow velocity"):
            sample(sampler, prediction, 25)
        return
    for num_steps, tolerance in zip((25, 101), TOLERANCES[sampler], strict=True):
        latents = sample(sampler, prediction, num_steps)
        assert float(latents.mean()) == pytest.approx(MEAN, abs=0.01)
        assert float(latents.std()) == pytest.approx(STD, abs=tolerance)


@pytest.mark.parametrize("sampler", FLOW_SAMPLERS)
def test_the_network_is_told_the_time_at_which_the_latent_is(sampler):
    """Rounded to whole numbers, as diffusers' schedulers with flow sigmas give it, it would be told another one."""
    denoiser = ExactGaussian(SCHEDULE, "flow")
    used = make_sampler(sampler, make_scheduler(SCHEDULE, "flow"))
    steps = list(denoise(denoiser, used, noise(4), num_steps=7))
    assert denoiser.told == [step.timestep for step in steps]
    assert len(denoiser.told) == 7
    assert denoiser.told[0] >= 999
    assert denoiser.told == sorted(denoiser.told, reverse=True)
    at = used.sigmas[: len(steps)] * 1000
    assert torch.allclose(torch.tensor(denoiser.told), at if sampler != "heun" else torch.tensor(denoiser.told))
    assert torch.allclose(steps[-1].z_next, steps[-1].z0, atol=1e-5)


@pytest.mark.parametrize("prediction", ["flow", "epsilon"])
def test_every_sampler_keeps_the_length_and_the_shift_of_what_is_stored(prediction):
    """diffusers takes what came by position for a default, and gives another class its own."""
    stored = make_scheduler(FlowSchedule(500), prediction, 3.0)
    for name in samplers_of(FlowSchedule(500), prediction):
        sampler = make_sampler(name, stored)
        assert (sampler.config.num_train_timesteps, shift_of(sampler)) == (500, 3.0), name


def test_of_a_shift_that_is_kept_nobody_is_told_that_it_is_ignored(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    for name in FLOW_SAMPLERS:
        assert shift_of(make_sampler(name, make_scheduler(SCHEDULE, "flow", 3.0))) == 3
    assert caplog.messages == []


def test_a_shift_that_leaves_no_way_between_steps_is_named_as_the_cause():
    with pytest.raises(ValueError, match=r"10 steps with flow_shift 1000000\.0 come to a timestep twice: give fewer"):
        set_timesteps(make_sampler("unipc", make_scheduler(SCHEDULE, "flow", 1e6)), 10)


def test_samplers_are_listed_by_what_they_read():
    assert samplers_of(SCHEDULE, "flow") == tuple(FLOW_SAMPLERS)
    assert samplers_of(SCHEDULE, "sample") == ("dpm++", "unipc")
    assert samplers_of(make_schedule("cosine"), "epsilon") == tuple(SAMPLERS)
    for name in FLOW_SAMPLERS:
        taken = [steps for steps in (4, 5) if takes_evaluations(name, steps)]
        assert taken == ([5] if name == "heun" else [4, 5])


def test_a_sampler_of_one_path_is_refused_for_a_denoiser_of_the_other():
    """It would give numbers, and wrong ones."""
    betas, flow = make_schedule("cosine"), make_sampler("dpm++", make_scheduler(SCHEDULE, "flow"))
    with pytest.raises(TypeError, match="DPMSolverMultistepScheduler is no sampler along betas that is known here"):
        next(denoise(ExactGaussian(betas, "epsilon"), flow, noise(1), num_steps=2))
    of_betas = make_sampler("dpm++", make_scheduler(betas, "epsilon"))
    with pytest.raises(TypeError, match="DPMSolverMultistepScheduler is no sampler along a flow that is known here"):
        next(denoise(ExactGaussian(SCHEDULE, "flow"), of_betas, noise(1), num_steps=2))


def test_an_even_number_of_evaluations_is_refused_for_heun():
    with pytest.raises(ValueError, match="Heun's method takes an odd number, 9 for one"):
        sample("heun", "flow", 8)


@pytest.mark.parametrize("prediction", prediction_types_of(SCHEDULE))
def test_what_is_stored_says_schedule_and_prediction(prediction, tmp_path):
    made = make_scheduler(FlowSchedule(500), prediction)
    made.save_pretrained(tmp_path)
    read = type(made).from_pretrained(tmp_path)
    assert own_schedule(read) == FlowSchedule(500)
    assert prediction_type_of(read) == prediction


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="v_prediction along flow: no sampler reads it; choose flow, epsilon, sample"):
        make_scheduler(SCHEDULE, "v_prediction")
    with pytest.raises(ValueError, match="flow along cosine"):
        make_scheduler(make_schedule("cosine"), "flow")
    for name in set(SAMPLERS) - set(FLOW_SAMPLERS):
        with pytest.raises(ValueError, match="does not walk along a flow: choose one of dpm"):
            make_sampler(name, make_scheduler(SCHEDULE, "flow"))
    with pytest.raises(ValueError, match="does not walk along a schedule of betas"):
        make_sampler("euler", make_scheduler(make_schedule("cosine"), "epsilon"))


def test_euler_in_the_coordinates_of_a_flow_is_ddim():
    """A network along betas is a flow's, too: x = z_t / (a + b) at s = b / (a + b), u = eps - z0."""
    schedule = make_schedule("cosine")
    denoiser = ExactGaussian(schedule, "v_prediction")
    sampler = make_sampler("ddim", make_scheduler(schedule, "v_prediction"))
    steps = list(denoise(denoiser, sampler, noise(8), num_steps=20))
    x = flow_coordinates(schedule, steps[0].timestep, steps[0].z_t)
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        here = schedule.at(step.timestep).map(Tensor.double)
        s = here.b / (here.a + here.b)
        z_t = (x * (here.a + here.b)).float()
        y = denoiser(z_t, step.timestep)
        u = to_eps("v_prediction", y, z_t, here) - to_z0("v_prediction", y, z_t, here)
        if following is None:
            x = x - s * u.double()
            assert torch.allclose(x.float(), step.z_next, atol=1e-4)
        else:
            there = schedule.at(following.timestep).map(Tensor.double)
            x = x + (there.b / (there.a + there.b) - s) * u.double()
            assert torch.allclose(x, flow_coordinates(schedule, following.timestep, following.z_t), atol=1e-4)


def flow_coordinates(schedule: BetaSchedule, timestep: float, z_t: Tensor) -> Tensor:
    mixed = schedule.at(timestep).map(Tensor.double)
    return z_t.double() / (mixed.a + mixed.b)
