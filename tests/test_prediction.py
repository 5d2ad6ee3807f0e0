import pytest
import torch

from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.prediction import (
    PREDICTION_TYPES,
    PREDICTIONS,
    add_noise,
    error_over_z0_error,
    min_snr_weight,
    target,
    to_eps,
    to_z0,
)
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
    with pytest.raises(ValueError, match=r"velocity.*v_prediction"):
        conversion("velocity", *z0_and_eps, 0.5)


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
def test_min_snr_weights_are_finite_at_both_ends(prediction_type):
    assert min_snr_weight(prediction_type, torch.tensor([0.0, 0.5, 1.0]), 5.0).isfinite().all()


CLOSED_FORMS = {
    "epsilon": {
        "target": lambda a, b, z0, eps: eps,
        "z0": lambda a, b, z_t, y: (z_t - b * y) / a,
        "eps": lambda a, b, z_t, y: y,
        "over_z0": lambda abar: abar / (1 - abar),
    },
    "v_prediction": {
        "target": lambda a, b, z0, eps: a * eps - b * z0,
        "z0": lambda a, b, z_t, y: a * z_t - b * y,
        "eps": lambda a, b, z_t, y: b * z_t + a * y,
        "over_z0": lambda abar: 1 / (1 - abar),
    },
    "flow": {
        "target": lambda a, b, z0, eps: eps - z0,
        "z0": lambda a, b, z_t, y: (z_t - b * y) / (a + b),
        "eps": lambda a, b, z_t, y: (z_t + a * y) / (a + b),
        "over_z0": lambda abar: (abar.sqrt() + (1 - abar).sqrt()) ** 2 / (1 - abar),
    },
    "sample": {
        "target": lambda a, b, z0, eps: z0,
        "z0": lambda a, b, z_t, y: y,
        "eps": lambda a, b, z_t, y: (z_t - a * y) / b,
        "over_z0": lambda abar: torch.ones_like(abar),
    },
}


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction_type", CLOSED_FORMS)
def test_the_table_gives_the_closed_forms_at_every_timestep(prediction_type, schedule, zero_terminal_snr):
    """Targets, and all but v's conversions, bit for bit; those to the rounding of a^2 + b^2."""
    abar = make_schedule(schedule, zero_terminal_snr=zero_terminal_snr).alpha_bars
    z0, eps, other = torch.randn(3, len(abar), 4, 2, 2, generator=torch.Generator().manual_seed(0)).unbind()
    a, b = abar.view(-1, 1, 1, 1).sqrt(), (1 - abar).view(-1, 1, 1, 1).sqrt()
    forms = CLOSED_FORMS[prediction_type]
    assert torch.equal(target(prediction_type, z0, eps, abar), forms["target"](a, b, z0, eps))
    tolerance = 5e-7 if prediction_type == "v_prediction" else 0
    for name, conversion in (("z0", to_z0), ("eps", to_eps)):
        found, expected = conversion(prediction_type, other, z0, abar), forms[name](a, b, z0, other)
        assert torch.allclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    weight = forms["over_z0"](abar.double())
    assert torch.allclose(error_over_z0_error(prediction_type, abar.double()), weight, rtol=1e-12, atol=0)


def test_at_the_ends_of_a_schedule_a_prediction_is_undefined_only_where_it_says_nothing(z0_and_eps):
    prediction, z_t = z0_and_eps
    assert not to_z0("epsilon", prediction, z_t, 0.0).isfinite().any()
    assert not to_eps("sample", prediction, z_t, 1.0).isfinite().any()
    assert torch.equal(to_eps("epsilon", prediction, z_t, 0.0), prediction)
    assert torch.equal(to_z0("sample", prediction, z_t, 1.0), prediction)
    for end in (0.0, 1.0):
        assert to_z0("v_prediction", prediction, z_t, end).isfinite().all()
        assert to_eps("v_prediction", prediction, z_t, end).isfinite().all()


def test_a_prediction_type_is_one_entry(monkeypatch, z0_and_eps):
    """u = eps - z0, the velocity of a flow, under another name."""
    monkeypatch.setitem(PREDICTIONS, "added", lambda a, b: (-torch.ones_like(a), torch.ones_like(a)))
    z0, eps = z0_and_eps
    z_t, prediction = add_noise(z0, eps, ALPHA_BARS), target("added", z0, eps, ALPHA_BARS)
    assert torch.equal(prediction, eps - z0)
    assert torch.allclose(to_z0("added", prediction, z_t, ALPHA_BARS), z0, atol=1e-4)
    assert torch.allclose(to_eps("added", prediction, z_t, ALPHA_BARS), eps, atol=1e-4)
    expected = (ALPHA_BARS.sqrt() + (1 - ALPHA_BARS).sqrt()).square() / (1 - ALPHA_BARS)
    assert torch.allclose(error_over_z0_error("added", ALPHA_BARS), expected, rtol=1e-5)
    eigenvalues = torch.tensor([0.2, 1.0, 3.0])
    floors, of_z0 = (loss_floors(kind, ALPHA_BARS, eigenvalues) for kind in ("added", "sample"))
    assert torch.allclose(floors.gaussian, expected * of_z0.gaussian, rtol=1e-5)
    assert torch.allclose(floors.zero, torch.full_like(ALPHA_BARS, 1 + 4.2 / 3))
