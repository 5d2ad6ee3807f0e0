"""The report behind this project, rebuilt: a loss that stopped at 0.34, wrong images, and what each fix changes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.diagnosis.faults import lab_checkpoint
from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.diagnosis.loss_facts import named_schedule
from ldm_explorer.diagnosis.reading import LossReading, read_loss
from ldm_explorer.diagnosis.statistics import read_statistics
from ldm_explorer.explore.training_film import training_film
from ldm_explorer.files import CheckpointError
from ldm_explorer.run_layout import METRICS_FILE, STATISTICS_FILE
from ldm_explorer.schedules import SCHEDULES

REPORTED_LOSS = 0.34
LENGTHS = (100, 1000)
STDS = torch.logspace(-1, 1, 81)

STAGES = {
    "lab-as-reported": (
        "As it may have been",
        "A small autoencoder whose KL term is as strong as its reconstruction: most of its latent values are noise. "
        "Its latents as the encoder writes them, the linear schedule, a network that predicts the noise. The loss "
        "stops where the white floor of these latents was predicted to be, and longer training would not move it.",
    ),
    "lab-raw-latents": (
        "A weaker KL term",
        "The shipped autoencoder, with --kl-weight 1e-4, wider and trained longer: its latents hold the image. They "
        "are still not normalised. From here on the denoiser trains for 1,500 steps in place of 600.",
    ),
    "lab-normalised": (
        "Latents normalised",
        "Every channel has mean 0 and standard deviation 1, so the schedule means what it says.",
    ),
    "lab-healthy": (
        "The cosine schedule and the velocity",
        "Both at once: less of the schedule is spent on next to pure noise, and the target asks for image and noise "
        "alike. The loss is of another target and not to be compared with the three before.",
    ),
}
"""Runs of the lab, each fixed further than the one before."""


@dataclass(frozen=True)
class Stage:
    name: str
    title: str
    change: str
    command: str
    reading: LossReading
    images: Tensor  # (B, C, side, side) uint8, generated at the end of training
    std: float  # of the latents that its network sees, about their mean


def read_stages() -> tuple[Stage, ...]:
    """The runs in order. Raises `CheckpointError` where one is missing."""
    stages = []
    for name, (title, change) in STAGES.items():
        run = lab_checkpoint(name)
        command, film = run.metrics.get("training", {}).get("command"), training_film(run)
        statistics = read_statistics(run.folder)
        if not command or not film or statistics is None:
            raise CheckpointError(f"{run.folder} lacks its {METRICS_FILE}, {STATISTICS_FILE} or film: train it anew")
        std = float(statistics.channel_variances.mean().sqrt())
        stages.append(Stage(name, title, change, command, read_loss(run), film[-1].images, std))
    return tuple(stages)


@dataclass(frozen=True)
class WhiteFloorCurve:
    """The white epsilon floor, averaged over t, of latents of every scale."""

    schedule: str
    num_timesteps: int
    stds: tuple[float, ...]
    floors: tuple[float, ...]

    def std_of(self, loss: float) -> float | None:
        """The standard deviation whose floor is a given loss; None outside 0.1 to 10."""
        floors = torch.tensor(self.floors)  # ascending with the scale: more signal is harder to tell noise from
        index = int(torch.searchsorted(floors, torch.tensor(loss)))
        if not 0 < index < len(floors):
            return None
        share = (loss - floors[index - 1]) / (floors[index] - floors[index - 1])
        return float(torch.lerp(torch.tensor(self.stds[index - 1]), torch.tensor(self.stds[index]), share))


def white_floor_curves() -> tuple[WhiteFloorCurve, ...]:
    """For every schedule, with T = 100 and 1000."""
    curves = []
    for name in SCHEDULES:
        for length in LENGTHS:
            amplitudes = named_schedule(name, length).amplitudes
            floors = [float(loss_floors("epsilon", amplitudes, std[None] ** 2).white.mean()) for std in STDS]
            curves.append(WhiteFloorCurve(name, length, tuple(STDS.tolist()), tuple(floors)))
    return tuple(curves)
