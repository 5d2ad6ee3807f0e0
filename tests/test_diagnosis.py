import json
from dataclasses import replace

import pytest
import torch
from conftest import uneven_statistics

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.diagnosis import floors
from ldm_explorer.diagnosis.floors import covariance_eigenvalues, loss_floors
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.diagnosis.statistics import write_statistics
from ldm_explorer.latents import Posterior
from ldm_explorer.prediction import PREDICTION_TYPES, add_noise, target
from ldm_explorer.schedules import SCHEDULES, make_schedule


def alpha_bars(name: str) -> torch.Tensor:
    beta_range = (0.00085, 0.012) if name == "scaled_linear" else (1e-4, 0.02)
    return make_schedule(name, 1000, *beta_range).alpha_bars


@pytest.mark.parametrize(("name", "eps_floor"), [("linear", 0.276), ("scaled_linear", 0.373), ("cosine", 0.496)])
def test_white_floors_of_unit_variance_latents_are_the_known_ones(name, eps_floor):
    unit = torch.ones(16)
    assert float(loss_floors("epsilon", alpha_bars(name), unit).white.mean()) == pytest.approx(eps_floor, abs=1e-3)
    assert torch.allclose(loss_floors("v_prediction", alpha_bars(name), unit).white, torch.ones(1000), atol=1e-5)


@pytest.mark.parametrize(("name", "std"), [("linear", 1.46), ("scaled_linear", 0.87), ("cosine", 0.53)])
def test_a_loss_of_034_is_the_white_floor_of_three_different_scales(name, std):
    floor = loss_floors("epsilon", alpha_bars(name), torch.full((4,), std**2)).white.mean()
    assert float(floor) == pytest.approx(0.34, abs=0.005)


def test_channels_of_different_scale_have_white_floors_of_their_own():
    scales = torch.tensor([0.5, 3.0])
    whole = loss_floors("epsilon", alpha_bars("linear"), scales.repeat(8), scales).white
    parts = [loss_floors("epsilon", alpha_bars("linear"), scale[None]).white for scale in scales]
    assert torch.allclose(whole, torch.stack(parts).mean(0))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_knowing_more_never_costs(prediction_type, schedule):
    floors = loss_floors(prediction_type, make_schedule(schedule).alpha_bars, torch.tensor([0.1, 0.5, 1.0, 2.4]))
    assert (floors.gaussian <= floors.white + 1e-6).all()
    assert (floors.white <= floors.zero + 1e-6).all()


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("abar", [0.95, 0.5, 0.05])
def test_the_gaussian_floor_is_what_the_exact_wiener_denoiser_reaches(prediction_type, abar):
    generator = torch.Generator().manual_seed(0)
    eigenvalues = torch.tensor([0.2, 0.7, 1.5, 3.0])
    z0 = torch.randn(200_000, 4, generator=generator) * eigenvalues.sqrt()
    eps = torch.randn(z0.shape, generator=generator)
    alpha_bar = torch.tensor(abar)
    z_t = add_noise(z0, eps, alpha_bar)
    z0_hat = z_t * alpha_bar.sqrt() * eigenvalues / (alpha_bar * eigenvalues + 1 - alpha_bar)
    eps_hat = (z_t - alpha_bar.sqrt() * z0_hat) / (1 - alpha_bar).sqrt()
    reached = (target(prediction_type, z0_hat, eps_hat, alpha_bar) - target(prediction_type, z0, eps, alpha_bar)) ** 2
    floor = loss_floors(prediction_type, alpha_bar[None], eigenvalues).gaussian
    assert float(reached.mean()) == pytest.approx(float(floor), rel=0.02)


def test_floors_do_not_depend_on_the_slices(monkeypatch):
    schedule, eigenvalues = make_schedule("cosine", 100), torch.rand(8, generator=torch.Generator().manual_seed(0))
    whole = loss_floors("v_prediction", schedule.alpha_bars, eigenvalues)
    monkeypatch.setattr(floors, "TIMESTEPS_SLICE", 7)
    sliced = loss_floors("v_prediction", schedule.alpha_bars, eigenvalues)
    assert torch.equal(whole.gaussian, sliced.gaussian)
    assert torch.equal(whole.white, sliced.white)


def test_eigenvalues_are_those_of_sampled_latents():
    generator = torch.Generator().manual_seed(0)
    posterior = Posterior(torch.randn(20_000, 1, 2, 2, generator=generator), torch.full((20_000, 1, 2, 2), 0.5))
    sampled = posterior.sample(torch.randn(posterior.mean.shape, generator=generator)).flatten(1)
    expected = torch.linalg.eigvalsh(torch.cov(sampled.T))
    assert torch.allclose(covariance_eigenvalues(posterior), expected, rtol=0.05)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([0.9, 0.5, 0.3], "below the Gaussian floor of its class"),
        ([1.0, 0.95, 0.9], "between the Gaussian floor of its class"),
        ([1.2, 1.1, 0.999], "no better than the white floor"),
        ([0.9, 0.8, 0.755], "at the Gaussian floor of its class"),
        ([3.0, 2.0, 1.5], "training fell apart"),
        ([1.0, float("nan")], "training fell apart"),
        ([0.9, 0.3, 0.5], "rose again"),
    ],
)
def test_the_sentence_says_where_the_loss_stands(run_with_losses, losses, said):
    reading = read_loss(run_with_losses(losses))
    assert said in reading.sentence()
    floors = reading.mean_floors
    assert floors["gaussian_per_class"] < floors["gaussian"] < floors["white"] == pytest.approx(1, abs=1e-4)


def test_the_share_of_the_gap_is_between_the_gaussian_and_the_memorising_floor(run_with_losses):
    reading = read_loss(run_with_losses([0.9, 0.5]))
    floors = {name: reading.mean_floors[f"{name}_per_class"] for name in ("gaussian", "memorising")}
    for share in (0, 0.25, 1):
        loss = floors["gaussian"] + share * (floors["memorising"] - floors["gaussian"])
        assert replace(reading, validation_loss=(loss,)).gap_closed == pytest.approx(share, abs=1e-6)
    per_bin = reading.floors_per_bin()
    at_floor = replace(reading, validation_bins=(tuple(per_bin["memorising_per_class"]),))
    assert at_floor.gap_closed_per_bin == pytest.approx([1] * 10)


def test_the_sentence_says_where_the_gap_is_open(run_with_losses):
    reading = read_loss(run_with_losses([0.9, 0.5]))
    per_bin = reading.floors_per_bin()
    gaussian, memorising = per_bin["gaussian_per_class"], per_bin["memorising_per_class"]
    bins = [*gaussian[:2], *[0.5 * (g + m) for g, m in zip(gaussian[2:9], memorising[2:9], strict=True)], gaussian[9]]
    said = replace(reading, validation_bins=(tuple(bins),)).sentence()
    assert "next to none where t is 0 to 199 and 900 to 999" in said
    assert "most (50%)" in said


def test_before_the_memorising_floor_is_there_the_loss_is_judged_and_the_gap_is_said_to_be_unknown(run_with_losses):
    checkpoint = run_with_losses([0.9, 0.5])
    finished = read_loss(checkpoint)
    write_statistics(checkpoint.folder, replace(uneven_statistics(), memorising=None, class_memorising=None))
    reading = read_loss(checkpoint)
    assert set(finished.floors) - set(reading.floors) == {"memorising", "memorising_per_class"}
    assert reading.rung is finished.rung
    assert (finished.gap_is_known, reading.gap_is_known) == (True, False)
    assert "not known yet: that floor is measured when the training ends" in reading.sentence()
    assert "It closed" in finished.sentence()


def test_latents_that_are_noise_are_said_to_be(run_with_losses):
    reading = read_loss(run_with_losses([1.0, 0.99]))
    same = {name: torch.ones(1000) for name in reading.floors}
    assert "next to noise" in replace(reading, floors=same).sentence()


def test_where_the_floors_are_nearly_one_no_share_is_said(run_with_losses):
    reading = read_loss(run_with_losses([0.9, 0.5]))
    gaussian = reading.floors["gaussian_per_class"]
    known = reading.floors | {"memorising_per_class": torch.cat([gaussian[:500] * 0.5, gaussian[500:] * 0.99])}
    closed = replace(reading, floors=known)
    assert [share is None for share in closed.gap_closed_per_bin] == [False] * 5 + [True] * 5
    assert "where t is 500 to 999 there is no gap to close" in closed.sentence()


def test_floors_per_bin_average_to_the_mean_floor(run_with_losses):
    reading = read_loss(run_with_losses([0.9, 0.5]))
    for name, bins in reading.floors_per_bin().items():
        assert len(bins) == 10
        assert sum(bins) / 10 == pytest.approx(reading.mean_floors[name], rel=1e-5)


def test_a_run_without_validation_or_statistics_says_what_is_missing(ldm_folder, run_with_losses):
    with pytest.raises(ValueError, match=r"no floors.*train/latents.py"):
        read_loss(read_checkpoint(ldm_folder))
    with pytest.raises(ValueError, match="no validation loss"):
        read_loss(run_with_losses([]))


def test_lines_that_hold_a_validation_alone_or_none_are_read_for_what_they_hold(run_with_losses):
    checkpoint = run_with_losses([0.9, 0.5])
    alone = {"step": 3, "images": 300, "validation_loss": 0.25, "validation_loss_per_bin": [0.25] * 10}
    others = [
        {"step": 4, "images": 400, "mse": 0.125},
        {"step": 5, "loss": 9.0},
        {"step": 6, "validation_loss_per_bin": [1.0]},
    ]
    with (checkpoint.folder / "train_log.jsonl").open("a") as log:
        log.write("".join(json.dumps(line) + "\n" for line in (alone, *others)))
    reading = read_loss(checkpoint)
    assert (reading.images, reading.loss) == ((100, 200, 400), (0.9, 0.5, 0.125))
    assert (reading.validation_images, reading.validation_loss) == ((100, 200, 300), (0.9, 0.5, 0.25))
