import pytest
import torch

from ldm_explorer.prediction import PREDICTION_TYPES, add_noise, min_snr_weight, target, to_eps, to_z0
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import SCHEDULES, make_schedule

TIMESTEPS = torch.tensor([0, 1, 250, 500, 998, 999])
# float32 loses digits where the other coefficient is small: z0 from eps near abar = 0, eps from z0 near abar = 1.
ALPHA_BARS = torch.tensor([0.999, 0.9, 0.5, 0.1, 0.01, 0.001])


@pytest.fixture
def z0_and_eps():
    generator = torch.Generator().manual_seed(0)
    shape = (len(TIMESTEPS), 3, 4, 4)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noise_and_velocity_are_those_of_diffusers(schedule, z0_and_eps):
    z0, eps = z0_and_eps
    scheduler = make_scheduler(make_schedule(schedule), "v_prediction")
    alpha_bar = make_schedule(schedule).alpha_bars[TIMESTEPS]
    assert torch.equal(add_noise(z0, eps, alpha_bar), scheduler.add_noise(z0, eps, TIMESTEPS))
    assert torch.equal(target("v_prediction", z0, eps, alpha_bar), scheduler.get_velocity(z0, eps, TIMESTEPS))


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_a_perfect_prediction_gives_back_z0_and_eps(prediction_type, z0_and_eps):
    z0, eps = z0_and_eps
    z_t = add_noise(z0, eps, ALPHA_BARS)
    prediction = target(prediction_type, z0, eps, ALPHA_BARS)
    assert torch.allclose(to_z0(prediction_type, prediction, z_t, ALPHA_BARS), z0, atol=1e-4)
    assert torch.allclose(to_eps(prediction_type, prediction, z_t, ALPHA_BARS), eps, atol=1e-4)


def test_the_velocity_is_z_t_turned_by_a_right_angle(z0_and_eps):
    """(z_t, v) is a rotation of (z0, eps): it keeps length."""
    z0, eps = z0_and_eps
    z_t, v = add_noise(z0, eps, ALPHA_BARS), target("v_prediction", z0, eps, ALPHA_BARS)
    assert torch.allclose(z_t.square() + v.square(), z0.square() + eps.square(), atol=1e-4)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_one_alpha_bar_for_all_equals_the_same_one_for_each(prediction_type, z0_and_eps):
    z0, eps = z0_and_eps
    for alpha_bar in (0.3, torch.tensor(0.3)):
        each = torch.full((len(z0),), 0.3)
        assert torch.equal(add_noise(z0, eps, alpha_bar), add_noise(z0, eps, each))
        assert torch.equal(target(prediction_type, z0, eps, alpha_bar), target(prediction_type, z0, eps, each))
        assert torch.equal(to_z0(prediction_type, eps, z0, alpha_bar), to_z0(prediction_type, eps, z0, each))
        assert torch.equal(to_eps(prediction_type, eps, z0, alpha_bar), to_eps(prediction_type, eps, z0, each))


@pytest.mark.parametrize("conversion", [target, to_z0, to_eps])
def test_an_unknown_prediction_type_is_refused_with_the_known_ones(conversion, z0_and_eps):
    with pytest.raises(ValueError, match=r"flow.*v_prediction"):
        conversion("flow", *z0_and_eps, 0.5)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_min_snr_weighs_every_prediction_as_the_same_error_of_z0(prediction_type, z0_and_eps):
    """Hang et al. 2023: whatever is predicted, a timestep counts min(SNR, gamma) times its squared error of z0."""
    z0, eps = z0_and_eps
    z_t = add_noise(z0, eps, ALPHA_BARS)
    a, b = ALPHA_BARS.view(-1, 1, 1, 1).sqrt(), (1 - ALPHA_BARS).view(-1, 1, 1, 1).sqrt()
    wrong_z0 = z0 + 0.1
    wrong = target(prediction_type, wrong_z0, (z_t - a * wrong_z0) / b, ALPHA_BARS)
    error = (wrong - target(prediction_type, z0, eps, ALPHA_BARS)).square().mean(dim=(1, 2, 3))
    weighted = min_snr_weight(prediction_type, ALPHA_BARS, 5.0) * error
    snr = ALPHA_BARS / (1 - ALPHA_BARS)
    assert torch.allclose(weighted, snr.clamp_max(5.0) * 0.01, rtol=1e-2)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_min_snr_weights_are_finite_at_zero_terminal_snr(prediction_type):
    assert min_snr_weight(prediction_type, torch.tensor([0.0, 0.5]), 5.0).isfinite().all()
