"""What samples in few steps show: where no fault explains it, the folder is neither accused nor called healthy."""

from dataclasses import replace

import pytest
import torch
from conftest import uneven_statistics

from ldm_explorer import diagnose
from ldm_explorer.amplitudes import amplitudes_of
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.examination import run_check
from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.diagnosis.known import KnownLatents
from ldm_explorer.diagnosis.power_spectrum import power_spectrum, spectrum_floor
from ldm_explorer.diagnosis.verdicts import Diagnosis, Verdict
from ldm_explorer.schedules import make_schedule
from ldm_explorer.shipped import shipped_checkpoints
from ldm_explorer.ui.rooms.diagnosis import card

(SAMPLES,) = (check for check in CHECKS if check.name == "samples")
GENERATOR = torch.Generator().manual_seed(0)
SMOOTH = torch.nn.functional.avg_pool2d(torch.randn(100, 1, 14, 14, generator=GENERATOR), 7, stride=1)
AMPLITUDES = amplitudes_of(make_schedule("linear").alpha_bars)[torch.tensor([50, 200, 500, 650])]
SEEN = Verdict("b", "b", "ok", "", sees_common_faults=True)


def grey_samples(ldm_folder, error: float) -> Verdict:
    """Of a model that is walked in all steps, whose few samples are next to constant; `error` over its spectrum's."""
    case = open_case(ldm_folder)
    z0 = SMOOTH.repeat(1, case.shape[0], 1, 1) / SMOOTH.std()
    vars(case)["stored_latents"] = KnownLatents(z0, None, False, "images")
    grey = KnownLatents(0.27 * z0[:16] / z0[:16].std(), None, False, "its own samples")
    vars(case)["_samples"] = {(case.prediction_type, num_steps): grey for num_steps in (10, 50)}
    floor = spectrum_floor(case.prediction_type, case.amplitudes[case.timesteps], z0)
    vars(case)["losses"] = {case.prediction_type: error * floor}
    return run_check(SAMPLES, case)


@pytest.mark.parametrize(
    ("error", "said"), [(3.0, "is 3.0 times what the mean and the power spectrum"), (0.9, "cannot see")]
)
def test_samples_that_no_fault_explains_are_said_in_the_sentence(ldm_folder, error, said):
    verdict = grey_samples(ldm_folder, error)
    assert verdict.status == "not run"
    diagnosis = Diagnosis("pixels", (SEEN, verdict))
    assert "nothing is wrong" not in diagnosis.sentence().lower()
    assert "standard deviation 0.27, should be 1.00" in diagnosis.sentence()
    assert "too little training is a common cause" in diagnosis.sentence()
    assert said in diagnosis.sentence()
    assert diagnosis.as_json()["healthy"] is None
    assert diagnosis.causes == []
    assert "ldm-verdict unjudged" in card(diagnosis)


def test_a_cause_comes_before_a_doubt(ldm_folder):
    cause = Verdict("c", "A fault", "suspect", "", severity=3)
    diagnosis = Diagnosis("pixels", (SEEN, cause, grey_samples(ldm_folder, 1.0)))
    assert diagnosis.sentence().startswith("Most likely: a fault")
    assert diagnosis.as_json()["healthy"] is False


def test_the_exit_status_of_a_doubt_is_that_of_what_could_not_be_judged(ldm_folder, monkeypatch, capsys):
    diagnosis = Diagnosis("pixels", (SEEN, grey_samples(ldm_folder, 1.0)))
    monkeypatch.setattr(diagnose, "diagnose_folder", lambda *_: diagnosis)
    assert diagnose.main([str(ldm_folder)]) == diagnose.UNJUDGED
    assert "No fault of pixels was found, but" in capsys.readouterr().out


def test_a_spectrum_holds_all_of_the_variance_and_its_floor_lies_between_the_gaussian_and_the_white_one():
    spectrum = power_spectrum(SMOOTH)
    assert float(spectrum.mean()) == pytest.approx(float(SMOOTH.var(0, correction=0).mean()), rel=1e-4)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(SMOOTH.flatten(1).T, correction=0)).clamp(min=0)
    floors = loss_floors("epsilon", AMPLITUDES, eigenvalues)
    known = spectrum_floor("epsilon", AMPLITUDES, SMOOTH)
    assert bool((floors.gaussian < known).all())
    assert bool((known < floors.white).all())
    assert float(known[0]) < 0.5 * float(floors.white[0])


def test_a_reader_that_ends_early_is_no_error(monkeypatch, tmp_path):
    class Closed:
        def write(self, _):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

        def fileno(self):
            return (tmp_path / "out").open("wb").fileno()

    monkeypatch.setattr(diagnose.sys, "stdout", Closed())
    monkeypatch.setattr(diagnose.os, "dup2", lambda *_: None)
    assert diagnose.main(["--snippet"]) == diagnose.HEALTHY


def test_latents_of_the_covariance_lie_at_a_distance_of_one_and_noise_of_their_size_does_not():
    statistics = uneven_statistics()
    covariance = statistics.covariance.double()
    noise = torch.randn(2000, len(covariance), generator=torch.Generator().manual_seed(1), dtype=torch.double)
    like = noise @ torch.linalg.cholesky(covariance).T + statistics.mean
    shape = statistics.subset.mean.shape[1:]
    assert statistics.mahalanobis(like.view(-1, *shape)) == pytest.approx(1, rel=0.01)
    of_its_size = noise * covariance.diag().mean().sqrt() + statistics.mean
    by_hand = float(torch.linalg.inv(covariance).diag().mean() * covariance.diag().mean())
    assert statistics.mahalanobis(of_its_size.view(-1, *shape)) == pytest.approx(by_hand, rel=0.02)
    assert by_hand > 1.5
    with pytest.raises(ValueError, match="was not kept"):
        replace(statistics, covariance=None).mahalanobis(like.view(-1, *shape))


@pytest.mark.parametrize("student", ["flagship-8x8x4-student-1", "flagship-8x8x4-student-4"])
def test_a_student_of_shuffled_weights_is_accused_and_the_shipped_one_is_not(student):
    case = open_case(shipped_checkpoints() / "fashion_mnist" / student)
    assert run_check(SAMPLES, case).status == "ok"
    shuffled = open_case(case.folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for values in shuffled.network.parameters():
            values.copy_(values.flatten()[torch.randperm(values.numel(), generator=generator)].view_as(values))
    verdict = run_check(SAMPLES, shuffled)
    assert (verdict.status, verdict.severity) == ("suspect", 2)
    assert "Mahalanobis" in verdict.evidence
    assert "distil it again" in verdict.fix


def test_the_covariance_of_few_latents_is_no_measure_of_others():
    case = open_case(shipped_checkpoints() / "fashion_mnist" / "flagship-8x8x4-student-1")
    kept = case.statistics
    few = replace(kept, subset=kept.subset[torch.arange(700)], covariance=torch.eye(256) * 1e-4)
    assert "Mahalanobis" not in run_check(SAMPLES, replace(case, statistics=few)).evidence


def test_one_of_a_thing_is_not_many(ldm_folder):
    case = replace(open_case(ldm_folder))
    wanted = KnownLatents(torch.randn(1, *case.shape, generator=GENERATOR), None, False, "its own samples")
    vars(case)["_samples"] = {(case.prediction_type, num_steps): wanted for num_steps in (10, 50)}
    assert run_check(SAMPLES, case).evidence.startswith("1 sample in 10 steps")
