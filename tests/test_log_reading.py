"""Anybody's loss beside its floors: which rung it shows, what it is where it is no mean, and what would explain it."""

import io
import json
import math
import random
from contextlib import redirect_stdout

import pytest
import torch

from ldm_explorer.diagnosis.explanations import std_of_white_floor
from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.diagnosis.judge import Rung
from ldm_explorer.diagnosis.latent_facts import SNIPPET, LatentFacts
from ldm_explorer.diagnosis.loss_facts import LossFacts, named_schedule, schedule_of_betas
from ldm_explorer.diagnosis.plateau import find_plateau
from ldm_explorer.diagnosis.statistics import measure_latents
from ldm_explorer.explore.anyones_log import Known, diagnose_log, reference_lines
from ldm_explorer.latents import Posterior
from ldm_explorer.prediction import PREDICTION_TYPES, min_snr_weight
from ldm_explorer.schedules import SCHEDULES, make_schedule

LINEAR = Known("linear", num_timesteps=1000, prediction="epsilon", latents="1")
EIGENVALUES = torch.tensor([0.1] * 8 + [1.9] * 8)
SPECTRUM = json.dumps({"values": 16, "latents": 4000, "eigenvalues": EIGENVALUES.tolist()})
FLOORS = loss_floors("epsilon", make_schedule("linear").alpha_bars, EIGENVALUES)
WHITE, GAUSSIAN = float(FLOORS.white.mean()), float(FLOORS.gaussian.mean())


def falling_to(end: float, start: float = 1.0, count: int = 400, noise: float = 0.0) -> str:
    """A CSV of a loss that falls and is level over its second half."""
    scatter = random.Random(0)
    rows = [
        f"{step},{(end + (start - end) * math.exp(-step / count * 20)) * (1 + noise * scatter.gauss(0, 1))}"
        for step in range(count)
    ]
    return "step,loss\n" + "\n".join(rows)


def printed(latents: torch.Tensor, labels: torch.Tensor | None = None) -> str:
    scope: dict = {}
    exec(SNIPPET, scope)
    with redirect_stdout(io.StringIO()) as said:
        scope["print_facts"](latents, labels)
    return said.getvalue()


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    """(N, 3, 4, 4) of uneven scale, correlated, with a mean."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(48, 48, generator=generator) * torch.logspace(0, -1.5, 48)
    return (torch.randn(3000, 48, generator=generator) @ mixing.T + 2).view(-1, 3, 4, 4) / 3


def test_the_snippet_is_short_and_its_floors_are_those_that_a_run_of_ours_keeps(latents):
    assert len(SNIPPET.splitlines()) <= 12
    labels = (latents[:, 0, 0, 0] > latents[:, 0, 0, 0].median()).long()
    schedule = make_schedule("cosine")
    own = measure_latents(Posterior(latents, torch.zeros_like(latents)), labels, schedule.alpha_bars, 2)
    facts = LatentFacts.parse(printed(latents, labels))
    floors = LossFacts(schedule, "v_prediction", facts).floors()
    exact = loss_floors("v_prediction", schedule.alpha_bars, own.eigenvalues, own.channel_variances)
    per_class = [loss_floors("v_prediction", schedule.alpha_bars, of.float()).gaussian for of in own.class_eigenvalues]
    for name, floor in {**vars(exact), "gaussian_per_class": torch.stack(per_class).mean(0)}.items():
        assert float(floors[name].mean()) == pytest.approx(float(floor.mean()), rel=3e-3), name
    assert (facts.values, facts.latents) == (48, 3000)


@pytest.mark.parametrize("shape", [(200, 5), (200, 2, 3), (40, 4, 2, 2), (50, 1, 2, 2, 2)])
def test_the_snippet_takes_latents_of_any_shape(shape):
    facts = LatentFacts.parse(printed(torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.half)))
    assert facts.values == math.prod(shape[1:])
    assert facts.class_eigenvalues is None
    assert facts.variance == pytest.approx(1, abs=0.2)


def test_normalised_latents_have_one_scale_as_in_a_run_of_ours(latents):
    normalised = (latents - latents.mean((0, 2, 3), keepdim=True)) / latents.std((0, 2, 3), keepdim=True)
    assert len(LatentFacts.parse(printed(latents)).channel_variances) == 3
    assert len(LatentFacts.parse(printed(normalised)).channel_variances) == 1


def test_latents_far_from_unit_scale_are_noted():
    for std, noted in (("3", True), ("0.3", True), ("0.5", False), ("1", False)):
        notes = diagnose_log("loss: 0.2", Known("linear", num_timesteps=1000, prediction="eps", latents=std)).notes
        assert any("schedules are made for 1" in note for note in notes) == noted


def test_too_few_latents_give_no_gaussian_floor_and_few_a_warning(latents):
    for count, gaussian, said in (
        (90, False, "no Gaussian floor, measure 480"),
        (200, True, "is too low, measure 480"),
    ):
        known = Known("linear", num_timesteps=1000, prediction="epsilon", latents=printed(latents[:count]))
        reading = diagnose_log("loss: 0.2", known)
        assert ("gaussian" in reading.floors) == gaussian
        assert any(said in note for note in reading.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("big", "give a standard deviation above 0"),
        ("-1", "give a standard deviation above 0"),
        ("0", "give a standard deviation above 0"),
        ("nan", "give a standard deviation above 0"),
        ("{", "cut off"),
        ('{"eigenvalues": [1, -1]}', "eigenvalues"),
        ('{"eigenvalues": []}', "eigenvalues"),
        ('{"values": 4}', "neither eigenvalues nor a std"),
        ('{"std": 2, "eigenvalues": [1, 1]}', "do not have the mean"),
        ('{"std": "' + "9" * 400 + '"}', "std"),
    ],
)
def test_facts_of_latents_that_are_none_are_refused(text, said):
    with pytest.raises(ValueError, match=said) as caught:
        LatentFacts.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("end", "latents", "rung", "outcome"),
    [
        (1.5, "1", Rung.NOTHING, "accused"),
        (1.0, "1", Rung.SCALE, "accused"),
        (WHITE, "1", Rung.SCALE, "accused"),
        (0.9 * WHITE, "1", None, "could not judge"),
        (0.5 * WHITE, "1", Rung.MORE_THAN_SCALE, "nothing found"),
        ((WHITE + GAUSSIAN) / 2, SPECTRUM, Rung.PART_OF_COVARIANCE, "accused"),
        (GAUSSIAN, SPECTRUM, Rung.COVARIANCE, "nothing found"),
        (0.1, SPECTRUM, Rung.MORE_THAN_COVARIANCE, "nothing found"),
    ],
)
def test_each_rung_is_named_and_only_the_lower_ones_are_accused(end, latents, rung, outcome):
    known = Known("linear", num_timesteps=1000, prediction="epsilon", latents=latents)
    reading = diagnose_log(falling_to(end, noise=0.02), known)
    assert (reading.rung, reading.outcome) == (rung, outcome)
    assert reading.plateau.value == pytest.approx(end, rel=5e-3)
    assert reading.to_try
    assert not reading.explanations
    assert json.loads(json.dumps(reading.as_json()))["rung"] == (rung and rung.name.lower())


def test_what_predicts_nothing_is_told_from_what_knows_the_scale():
    assert "predicts nothing" in diagnose_log(falling_to(1.0), LINEAR).sentence
    assert "noise that was added" in diagnose_log(falling_to(1.0), LINEAR).to_try[0]
    assert "predicts nothing" not in diagnose_log(falling_to(WHITE), LINEAR).sentence


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 1.0, 1.2])
def test_a_std_of_all_values_says_nothing_that_the_snippet_denies(share):
    generator = torch.Generator().manual_seed(0)
    mean_image = torch.randn(1, 4, 4, 4, generator=generator)
    latents = 0.8 * mean_image + 0.6 * torch.randn(60, 4, 4, 4, generator=generator)  # too few for a Gaussian floor
    log = falling_to(share * WHITE)
    alone, told = (
        diagnose_log(log, Known(**vars(LINEAR) | {"latents": facts}))
        for facts in (f"{float(latents.std()):.3f}", printed(latents))
    )
    assert alone.rung in (None, told.rung)
    assert told.rung is not None
    if alone.rung is None:
        assert alone.outcome == "could not judge"
        assert "mean image" in alone.sentence
        assert "the snippet" in alone.to_try[0]


def test_a_level_loss_above_the_white_floor_is_asked_about_its_std_and_not_told_to_train_longer():
    level = "step,loss\n" + "\n".join(f"{100 * n},{max(0.34, 1 - 0.033 * n)}" for n in range(1, 101))
    reading = diagnose_log(level, LINEAR)
    assert "23% above the white floor (0.276)" in reading.sentence
    assert (
        "0.34 is the white floor of std 1.46 there: are the latents that it sees really of std 1?" in reading.sentence
    )
    assert "train longer" not in reading.sentence.lower()
    assert "1.46" in reading.to_try[0]
    assert not any("scaled to" in line for line in reading.to_try)
    assert "±" not in reading.sentence
    assert any(
        "scaled to" in line for line in diagnose_log("loss: 0.9", Known(**vars(LINEAR) | {"latents": "5"})).to_try
    )
    falling = "step,loss\n" + "\n".join(f"{n},{0.34 + 0.3 * (1 - n / 100)}" for n in range(1, 101))
    assert "Train longer" in diagnose_log(falling, LINEAR).sentence


def test_latents_whose_covariance_holds_nothing_more_are_not_held_against_the_network():
    white = json.dumps({"values": 16, "latents": 4000, "eigenvalues": [1.0] * 16})
    reading = diagnose_log(falling_to(WHITE), Known("linear", num_timesteps=1000, prediction="epsilon", latents=white))
    assert (reading.rung, reading.outcome) == (Rung.SCALE, "could not judge")
    assert "KL weight" in reading.to_try[0]


def test_a_loss_that_still_falls_or_scatters_too_much_is_not_accused():
    rows = [f"{step},{1.05 * GAUSSIAN + 0.02 * (1 - step / 400)}" for step in range(400)]
    known = Known("linear", num_timesteps=1000, prediction="epsilon", latents=SPECTRUM)
    reading = diagnose_log("step,loss\n" + "\n".join(rows), known)
    assert (reading.rung, reading.outcome) == (Rung.PART_OF_COVARIANCE, "nothing found")
    assert reading.to_try[0].startswith("more steps")
    noisy = diagnose_log(falling_to(1.03 * GAUSSIAN, count=40, noise=0.3), known)
    assert noisy.plateau.standard_error > 0.01
    assert noisy.outcome == "nothing found"


def test_a_loss_that_ends_in_no_number_or_rises_again_is_accused_whatever_is_known():
    lost = diagnose_log("\n".join(["step,loss", *(f"{n},{0.5 if n < 60 else 'nan'}" for n in range(100))]), Known())
    assert lost.outcome == "accused"
    assert "from 60 on" in lost.sentence
    rising = [0.5 / (n + 1) + (0.002 * (n - 50) if n > 50 else 0) for n in range(100)]
    again = diagnose_log("\n".join(map(str, rising)), Known())
    assert again.outcome == "accused"
    assert "rose again" in again.sentence


def test_numbers_beyond_all_measure_are_none():
    assert diagnose_log("loss: 1e308\nloss: 1e308", LINEAR).outcome == "accused"
    assert diagnose_log("\n".join(["1e308", *["0.2"] * 40]), LINEAR).plateau.value == pytest.approx(0.2)


def test_noise_is_no_rise_and_a_few_values_that_are_none_are_left_out():
    scatter = random.Random(1)
    values = [0.3 * (1 + 0.2 * scatter.gauss(0, 1)) for _ in range(300)]
    assert find_plateau(values).rise == 1
    rows = [str(value if number % 50 else math.nan) for number, value in enumerate(values)]
    assert any("6 values are no numbers" in note for note in diagnose_log("\n".join(rows), Known()).notes)


def test_a_plateau_is_averaged_as_far_as_it_is_level():
    level = find_plateau([1 - 0.01 * n for n in range(60)] + [0.4] * 40)
    assert (level.value, level.count) == (pytest.approx(0.4), 40)
    falls = find_plateau([1 - 0.005 * n for n in range(100)])
    assert (falls.count, falls.still_falling) == (10, True)
    assert find_plateau([0.34]).standard_error == 0


@pytest.mark.parametrize(
    ("factor", "batch", "divisor"),
    [(16, None, 16), (64, 64, 64), (16 * 64, 64, 16 * 64)],
    ids=["values", "batch", "both"],
)
def test_a_sum_is_told_by_its_size_and_read_when_it_is_divided(factor, batch, divisor):
    known = Known("linear", num_timesteps=1000, prediction="epsilon", latents=SPECTRUM, batch_size=batch)
    log = falling_to(GAUSSIAN * factor, start=factor)
    first = diagnose_log(log, known)
    assert (first.rung, first.outcome) == (None, "could not judge")
    assert f"--divide-by {divisor}" in first.sentence
    told = Known(**vars(known) | {"divide_by": divisor})
    assert diagnose_log(log, told).rung is Rung.COVARIANCE
    assert "a sum" in diagnose_log(log, LINEAR).sentence


def test_a_loss_that_began_as_a_mean_and_ended_far_above_fell_apart():
    known = Known("linear", num_timesteps=1000, prediction="epsilon", latents=SPECTRUM)
    for end, rows in ((40.0, falling_to(40.0, start=1.0)), (10.0, "\n".join(["1.1", *["10"] * 50]))):
        reading = diagnose_log(rows, known)
        assert (reading.rung, reading.outcome) == (Rung.NOTHING, "accused")
        assert reading.plateau.value == pytest.approx(end)


@pytest.mark.parametrize("prediction", PREDICTION_TYPES)
def test_min_snr_weights_are_told_by_the_first_step_and_weigh_the_floors(prediction):
    schedule = named_schedule("flow" if prediction == "flow" else "cosine", 1000)
    weights = min_snr_weight(prediction, schedule.amplitudes.map(torch.Tensor.double), 5.0).float()
    floors = vars(loss_floors(prediction, schedule.amplitudes, torch.ones(4)))
    zero, white = (float((weights * floors[name]).mean()) for name in ("zero", "white"))
    known = Known(schedule.name, num_timesteps=1000, prediction=prediction, latents="1")
    log = falling_to(white, start=zero)
    if zero < 0.9 * float(floors["zero"].mean()):
        assert "--min-snr 5" in diagnose_log(log, known).sentence
    reading = diagnose_log(log, Known(**vars(known) | {"min_snr": 5.0}))
    assert reading.mean_floors["white"] == pytest.approx(white, rel=1e-4)
    assert reading.rung is Rung.SCALE


def test_an_absolute_error_that_never_moved_is_no_squared_one():
    reading = diagnose_log("Epoch 16, loss=0.798\nEpoch 17, loss=0.797", LINEAR)
    assert reading.outcome == "could not judge"
    assert "absolute error" in reading.sentence


def test_without_facts_every_pair_is_named_whose_white_floor_it_is():
    reading = diagnose_log("loss: 0.34", Known(num_timesteps=1000))
    assert reading.outcome == "could not judge"
    assert "the schedule" in reading.sentence
    found = {(one.schedule, one.prediction_type): one.std for one in reading.explanations}
    stds = [found[name, "epsilon"] for name in ("linear", "scaled_linear", "cosine")]
    assert stds == pytest.approx([1.46, 0.87, 0.53], abs=0.01)  # docs/report.md
    for (name, prediction), std in found.items():
        amplitudes = named_schedule(name, 1000).amplitudes
        white = loss_floors(prediction, amplitudes, torch.tensor([std**2])).white.mean()
        assert float(white) == pytest.approx(0.34, rel=1e-3)


def test_the_pairs_are_the_same_whether_their_usual_length_is_said_or_not_and_the_commonest_come_first():
    pairs = diagnose_log("loss: 0.34", Known()).explanations
    assert pairs == diagnose_log("loss: 0.34", Known(num_timesteps=1000)).explanations
    assert (pairs[0].schedule, pairs[0].prediction_type) == ("linear", "epsilon")
    kinds = [one.prediction_type for one in pairs]
    assert kinds == sorted(kinds, key=("epsilon", "v_prediction", "flow", "sample").index)
    assert kinds.count("v_prediction") == len(SCHEDULES)


def test_a_loss_at_the_zero_floor_of_epsilon_is_told_before_the_latents_are_known():
    nothing = diagnose_log("loss: 1.0", Known(prediction="epsilon")).sentence
    assert "it learned nothing, unless hardly any noise was added" in nothing
    said = diagnose_log("loss: 1.0", Known("cosine", num_timesteps=1000, prediction="epsilon")).sentence
    std = float(said.partition("std is above ")[2].partition(". ")[0])
    alpha_bars = make_schedule("cosine").alpha_bars
    assert float(loss_floors("epsilon", alpha_bars, torch.tensor([std**2])).white.mean()) == pytest.approx(
        0.95, abs=0.02
    )
    assert "learned nothing" not in diagnose_log("loss: 0.9", Known(prediction="epsilon")).sentence


def test_what_is_known_narrows_the_pairs_and_a_known_scale_gives_each_its_rung():
    known = Known(prediction="v", latents="1", num_timesteps=1000)
    reading = diagnose_log("loss: 0.34", known)
    assert {one.prediction_type for one in reading.explanations} == {"v_prediction"}
    assert {one.schedule for one in reading.explanations} <= set(SCHEDULES)
    assert {one.rung for one in reading.explanations} == {Rung.MORE_THAN_SCALE}
    assert all(one.white == pytest.approx(1, abs=1e-3) for one in reading.explanations)
    assert std_of_white_floor(1.5, LossFacts(), named_schedule("linear", 100), "epsilon") is None


def test_betas_and_names_of_diffusers_are_schedules():
    betas = make_schedule("cosine", 50).betas
    assert torch.equal(schedule_of_betas(betas.tolist()).alpha_bars, make_schedule("cosine", 50).alpha_bars)
    assert torch.equal(named_schedule("squaredcos_cap_v2", 50).betas, betas)
    sd = named_schedule("scaled_linear", 1000)
    assert float(sd.alpha_bars[-1]) == pytest.approx(4.66e-3, rel=1e-2)  # Stable Diffusion's
    said = diagnose_log("loss: 1", Known(betas="0.1, 0.2 0.3", prediction="eps", latents="1"))
    assert len(said.floors["white"]) == 3


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (Known("no_such", num_timesteps=10), "unknown schedule"),
        (Known("linear", num_timesteps=1), "at least 2"),
        (Known(betas="0.1, x"), "the betas are"),
        (Known(betas="0.1, 2"), "a beta is 2.0"),
        (Known(betas="0.1"), "1 betas"),
        (Known(prediction="noise"), "the prediction is 'noise'"),
        (Known(divide_by=0), "--divide-by is 0"),
        (Known(min_snr=-1), "--min-snr is -1"),
    ],
)
def test_facts_that_are_none_are_refused(known, said):
    with pytest.raises(ValueError, match=said):
        diagnose_log("loss: 1", known)


def test_a_loss_below_zero_is_no_mean_of_squares():
    with pytest.raises(ValueError, match="goes down to -3"):
        diagnose_log("step,loss\n1,2\n2,-3", Known())


def test_reference_lines_are_in_the_units_of_the_log():
    reading = diagnose_log(falling_to(GAUSSIAN * 16, 16), Known(**vars(LINEAR) | {"divide_by": 16}))
    first, last = reference_lines(reading)
    assert (first["step"], last["step"]) == (0, 399)
    assert first["floor/white"] == pytest.approx(16 * WHITE, rel=1e-3)
    with pytest.raises(ValueError, match="no floors to write without the latents"):
        reference_lines(diagnose_log("loss: 1", Known("linear", num_timesteps=10, prediction="epsilon")))


def test_the_loss_of_a_flow_has_its_own_white_floor_and_no_v():
    reading = diagnose_log("loss: 1.571\nloss: 1.571", Known("flow", num_timesteps=1000, prediction="u", latents="1"))
    assert reading.rung is Rung.SCALE
    assert reading.mean_floors["white"] == pytest.approx(math.pi / 2, rel=1e-3)
    with pytest.raises(ValueError, match="v_prediction along flow: give one of flow, epsilon, sample"):
        diagnose_log("loss: 1.0", Known("flow", num_timesteps=1000, prediction="v", latents="1"))
    with pytest.raises(ValueError, match="flow along cosine: give one of epsilon, v_prediction, sample"):
        diagnose_log("loss: 1.0", Known("cosine", num_timesteps=1000, prediction="flow_prediction", latents="1"))
