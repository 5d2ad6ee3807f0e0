"""Small denoisers of latents whose distribution is known, trained with faults and without, and what each knows then.

What a network knows is measured on the network: its loss on many fresh latents, beside floors that are regressions on
the same latents. Nothing of it comes from the log or from a formula for floors.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ldm_explorer.diagnosis.judge import MeanFloors, Rung, judge
from ldm_explorer.diagnosis.loss_facts import named_schedule
from ldm_explorer.prediction import add_noise, min_snr_weight, target

SHAPE = (4, 2, 2)
VALUES = math.prod(SHAPE)
CLASSES = 4
BATCH = 256
STEPS = 3000
HIDDEN = 96
EIGENVALUES = torch.logspace(0.9, -1.3, VALUES)
MEASURED_TIMESTEPS, MEASURED_LATENTS = 100, 4000
NUM_TIMESTEPS = 1000


@dataclass(frozen=True)
class Setting:
    """One run. `fault` is "" for a healthy one."""

    schedule: str
    prediction: str
    latents: str  # "gaussian", or "classes": a Gaussian each, far apart
    fault: str = ""
    conditional: bool = False
    scale: float = 1.0
    reduction: str = "mean"  # "sum", "batch sum", "min-SNR"
    learning_rate: float = 2e-3
    steps: int = STEPS


@dataclass(frozen=True)
class Trained:
    """What a run left: its log, and what its network knows."""

    points: list[tuple[int, float]]
    latents: Tensor  # (N, 4, 2, 2) that its owner would measure
    labels: Tensor | None
    loss: float
    floors: MeanFloors

    @property
    def rung(self) -> Rung:
        return judge(self.loss, self.floors)

    def rung_by_scale(self) -> Rung:
        """For an owner who knows the scale of the latents alone."""
        return judge(self.loss, MeanFloors(self.floors.zero, self.floors.white, None, None))


class Source:
    """Latents of known distribution, of mean 0 and variance 1 in all, times a scale."""

    def __init__(self, setting: Setting, generator: torch.Generator):
        self.setting, self.generator = setting, generator
        self.basis = torch.linalg.qr(torch.randn(VALUES, VALUES, generator=generator)).Q
        self.means = 1.5 * torch.randn(CLASSES, VALUES, generator=generator)
        self.means -= self.means.mean(0)
        spectrum = EIGENVALUES if setting.latents == "gaussian" else EIGENVALUES.flip(0) / 3
        self.stds = spectrum.sqrt()
        between = 0.0 if setting.latents == "gaussian" else float(self.means.square().mean())
        self.unit = (float(spectrum.mean()) + between) ** -0.5 * setting.scale

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """(N, 16) and labels (N,)."""
        labels = torch.randint(CLASSES, (count,), generator=self.generator)
        z = torch.randn(count, VALUES, generator=self.generator) * self.stds @ self.basis.T
        return self.unit * (z if self.setting.latents == "gaussian" else z + self.means[labels]), labels


class Network(nn.Module):
    """A linear path whose gains depend on the timestep, which can hold every Wiener filter, and a perceptron."""

    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(18, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN))
        self.label = nn.Embedding(CLASSES + 1, HIDDEN)
        self.into, self.gain, self.out = nn.Linear(VALUES, VALUES), nn.Linear(HIDDEN, VALUES), nn.Linear(VALUES, VALUES)
        self.first = nn.Linear(VALUES + HIDDEN, HIDDEN)
        self.second, self.last = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, VALUES)
        nn.init.zeros_(self.last.weight)

    def forward(self, z_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        share = (t / NUM_TIMESTEPS)[:, None]
        waves = [function(math.pi * 2**power * share) for power in range(-1, 7) for function in (torch.sin, torch.cos)]
        told = self.time(torch.cat([share, 1 - share, *waves], 1)) + self.label(labels)
        linear = self.out(self.into(z_t) * self.gain(told))
        hidden = nn.functional.silu(self.first(torch.cat([z_t, told], 1)))
        return linear + self.last(nn.functional.silu(self.second(hidden)))


def train(setting: Setting, seed: int) -> Trained:
    """Train one of the settings; the same seed gives the same log."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network()
    source = Source(setting, generator)
    alpha_bars = named_schedule(setting.schedule, NUM_TIMESTEPS).alpha_bars
    optimizer = torch.optim.Adam(network.parameters(), lr=setting.learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setting.steps)
    points = []
    for step in range(1, setting.steps + 1):
        loss = _loss(network, source, setting, alpha_bars, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        points.append((step, float(loss.detach())))
    loss, floors = _measure(network, source, setting, alpha_bars)
    latents, labels = source.draw(4000)
    return Trained(points, latents.view(-1, *SHAPE), labels if setting.conditional else None, loss, floors)


def _loss(network: Network, source: Source, setting: Setting, alpha_bars: Tensor, generator) -> Tensor:
    """Of one batch, as the run logs it."""
    z0, labels = source.draw(BATCH)
    t = torch.randint(NUM_TIMESTEPS, (BATCH,), generator=generator)
    eps = torch.randn(z0.shape, generator=generator)
    z_t = add_noise(z0, eps, alpha_bars[t])
    if setting.fault == "noise drawn again":
        eps = torch.randn(z0.shape, generator=generator)
    if setting.fault == "another batch's latents":
        z0 = source.draw(BATCH)[0]
    wanted = target(setting.prediction, z0, eps, alpha_bars[t])
    squares = (network(z_t, *_told(setting, t, labels, generator)) - wanted).square()
    if setting.reduction == "min-SNR":
        squares = squares * min_snr_weight(setting.prediction, alpha_bars[t], 5.0)[:, None]
    factor = {"sum": VALUES, "batch sum": BATCH}.get(setting.reduction, 1)
    return factor * squares.mean()


def _told(setting: Setting, t: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The timestep and label that the network is given."""
    if setting.fault == "no timestep":
        t = torch.zeros_like(t)
    if setting.fault == "labels shuffled":
        labels = labels[torch.randperm(len(labels), generator=generator)]
    return t, labels if setting.conditional else torch.full_like(labels, CLASSES)


@torch.no_grad()
def _measure(network: Network, source: Source, setting: Setting, alpha_bars: Tensor) -> tuple[float, MeanFloors]:
    """The network's unweighted loss against the right target, and the floors by regression."""
    generator, edges = torch.Generator().manual_seed(99), torch.linspace(0, NUM_TIMESTEPS, MEASURED_TIMESTEPS + 1)
    rows = []
    for first, last in pairwise(edges.long().tolist()):
        t = torch.full((MEASURED_LATENTS,), (first + last) // 2)
        z0, labels = source.draw(MEASURED_LATENTS)
        eps = torch.randn(z0.shape, generator=generator)
        z_t = add_noise(z0, eps, alpha_bars[t])
        wanted = target(setting.prediction, z0, eps, alpha_bars[t])
        own = (network(z_t, *_told(setting, t, labels, generator)) - wanted).square().mean()
        rows.append(torch.stack([own, wanted.square().mean(), *_regressions(z_t, wanted, labels, setting)]))
    loss, zero, white, gaussian = torch.stack(rows).double().mean(0).tolist()
    return loss, MeanFloors(zero, white, gaussian, None)


def _regressions(z_t: Tensor, wanted: Tensor, labels: Tensor, setting: Setting) -> list[Tensor]:
    """The squared error of the best multiple of z_t, and of the best linear map, of each class where it is told."""
    gain = (z_t * wanted).sum() / z_t.square().sum()
    white = (wanted - gain * z_t).square().mean()
    groups = [labels == label for label in range(CLASSES)] if setting.conditional else [torch.ones_like(labels).bool()]
    errors = []
    for rows in groups:
        known = torch.cat([z_t[rows], torch.ones(int(rows.sum()), 1)], 1)
        solution = torch.linalg.lstsq(known, wanted[rows]).solution
        left = (wanted[rows] - known @ solution).square().mean()
        errors.append(left * len(known) / (len(known) - known.shape[1]))  # what a fit takes from its own noise
    return [white, torch.stack(errors).mean()]
