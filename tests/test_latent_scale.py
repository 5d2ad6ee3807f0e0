"""One scaling_factor and a shift_factor: what is said was measured, and the denoiser tells the shift."""

import re
from dataclasses import replace

import pytest
import torch
from foreign_models import save_latents, small_vae

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.examination import run_check
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.diagnosis.verdicts import Verdict
from ldm_explorer.latents import Posterior

(SCALE,) = (check for check in CHECKS if check.name == "latent_scale")
GENERATOR = torch.Generator().manual_seed(0)
PATTERN = torch.tensor([1.6, 1.5, -1.0, 2.3]).view(1, 4, 1, 1) + torch.randn(1, 4, 16, 16, generator=GENERATOR)
RAW = PATTERN + 0.3 * torch.randn(32, 4, 16, 16, generator=GENERATOR)
FACTOR = 1 / float(RAW.std())
IMAGES = torch.randint(0, 255, (32, 3, 32, 32), dtype=torch.uint8, generator=GENERATOR)


class KnowsTheMeanImage(Case):
    """Its denoiser was trained on the latents shifted by `trained_shift`, and knows their mean image."""

    trained_shift = 0.0

    def predict(self, z_t, timestep, *_):
        mixed, mean = self.amplitudes[timestep], FACTOR * (PATTERN - self.trained_shift)
        return mixed.b * (z_t - mixed.a * mean) / ((0.3 * FACTOR * mixed.a) ** 2 + mixed.b**2)


class KnowsNothing(Case):
    def predict(self, z_t, *_):
        return torch.zeros_like(z_t)


def verdict_on(
    folder, shift: float | None, kind: type[Case] = KnowsTheMeanImage, trained_shift: float = 0.0
) -> Verdict:
    save_latents(folder, vae=small_vae(scaling_factor=FACTOR, shift_factor=shift))
    case = kind(**vars(replace(open_case(folder), images=IMAGES)))
    vars(case)["trained_shift"] = trained_shift
    vars(case)["posterior"] = case.codec.normalise(Posterior(RAW, torch.full_like(RAW, 1e-3)))
    return run_check(SCALE, case)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]


def test_the_mean_and_std_of_each_channel_are_the_measured_ones(tmp_path):
    said = verdict_on(tmp_path, None)
    assert said.status == "ok"
    pooled, channels = said.evidence.split("channel by channel")
    scaled = FACTOR * RAW
    assert numbers(pooled.split("std of")[1])[0] == pytest.approx(1, abs=2e-3)
    assert numbers(pooled.split("mean of")[1])[0] == pytest.approx(float(scaled.mean()), abs=2e-3)
    wanted = [*scaled.std((0, 2, 3)).tolist(), *scaled.mean((0, 2, 3)).tolist()]
    assert numbers(channels)[:8] == pytest.approx(wanted, abs=2e-2)
    assert "should be 0" not in said.evidence


def test_a_shift_with_which_the_denoiser_errs_more_is_accused(tmp_path):
    said = verdict_on(tmp_path, 1.0)
    assert said.status == "suspect"
    assert said.fix == 'vae/config.json: "shift_factor": 0'


@pytest.mark.parametrize("shift", [1.0, -0.4, 0.02])
def test_a_shift_that_was_trained_with_is_not_accused(tmp_path, shift):
    assert verdict_on(tmp_path, shift, trained_shift=shift).status == "ok"


def test_a_shift_that_was_lost_is_accused(tmp_path):
    said = verdict_on(tmp_path, None, trained_shift=float(RAW.mean()))
    assert said.status == "suspect"
    assert numbers(said.fix)[0] == pytest.approx(float(RAW.mean()), abs=1e-2)


@pytest.mark.parametrize(("shift", "status"), [(2.0, "not run"), (None, "ok")])
def test_a_denoiser_that_knows_nothing_tells_nothing_of_a_shift(tmp_path, shift, status):
    assert verdict_on(tmp_path, shift, KnowsNothing).status == status
