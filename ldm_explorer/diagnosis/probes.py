"""What a denoiser is asked to compare two ways of using it: the same noisy latents, and what each way errs by."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.diagnosis.known import KnownLatents, spread
from ldm_explorer.prediction import add_noise, target
from ldm_explorer.schedules import Schedule

PROBED_AT = (3, 1, 5)  # of the case's timesteps
MAX_LATENTS = 8
FEW_LATENTS = 3
FITS = 0.9
"""An error below this share of the white floor: the network knows something."""
BETTER = 0.85
"""No trained network errs by less than this share of its own error when it is used otherwise than in training."""


@dataclass(frozen=True)
class Probe:
    """Noisy latents of one timestep, and what a perfect network would output."""

    timestep: int
    z_t: Tensor  # (B, c, h, w)
    wanted: Tensor
    labels: Tensor | None
    white: float  # the error of knowing the scale alone

    @property
    def few(self) -> "Probe":
        """For when much is compared."""
        few = slice(FEW_LATENTS)
        labels = None if self.labels is None else self.labels[few]
        return replace(self, z_t=self.z_t[few], wanted=self.wanted[few], labels=labels)


Answer = Callable[[Probe], Tensor]


def step_at(schedule: Schedule, signal_share: float) -> int:
    """The step where about this share of the variance is signal."""
    return int((schedule.amplitudes.signal_share - signal_share).abs().argmin())


def make_probes(case: Case, known: KnownLatents) -> list[Probe]:
    chosen = spread(len(known.z0), min(MAX_LATENTS, case.batch_size))
    z0, labels = known.z0[chosen], None if known.labels is None else known.labels[chosen]
    eps = torch.randn(z0.shape, generator=torch.Generator().manual_seed(6))
    variance, probes = known.z0.var()[None], []
    for timestep in (case.timesteps[index] for index in PROBED_AT):
        mixed = case.amplitudes[timestep]
        white = float(loss_floors(case.prediction_type, case.amplitudes[[timestep]], variance).white)
        wanted = target(case.prediction_type, z0, eps, mixed)
        probes.append(Probe(timestep, add_noise(z0, eps, mixed), wanted, labels, white))
    return probes


def error_over_white(probes: list[Probe], answer: Answer) -> float:
    """The squared error over the white floor, each averaged over the timesteps."""
    errors = [float((answer(probe) - probe.wanted).square().mean()) for probe in probes]
    return sum(errors) / sum(probe.white for probe in probes)


def own_answer(case: Case) -> Answer:
    """The network's, used as the folder says."""
    return lambda probe: case.predict(probe.z_t, probe.timestep, probe.labels)


def is_better(error: float, own: float) -> bool:
    """Whether another way of using the network is the one it was trained for."""
    return error < FITS and error < BETTER * own
