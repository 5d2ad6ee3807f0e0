"""Noise schedules: a name maps to the pair (a_t, b_t) of z_t = a_t z0 + b_t eps.

Either to betas, from which a variance-preserving pair follows, or to the straight line of a flow. Training, sampling
and every plot read the tensors made here.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes, amplitudes_of
from ldm_explorer.lazy import cached_property

DEFAULT_NUM_TIMESTEPS = 1000
MAX_NUM_TIMESTEPS = 10_000
DEFAULT_BETA_START = 1e-4
DEFAULT_BETA_END = 0.02
STABLE_DIFFUSION_BETAS = (0.00085, 0.012)
"""The start and end of its scaled_linear schedule (Rombach et al. 2022)."""

MIN_EPSILON_TERMINAL_SNR = 1e-6
"""With less, epsilon says nothing of the image at the last step."""
MAX_TERMINAL_SNR = 1e-2
"""With more, the last step still shows the image, and sampling starts from noise that training never saw."""


def linear_betas(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    """beta linear in t (Ho et al. 2020, section 4)."""
    return torch.linspace(beta_start, beta_end, num_timesteps, dtype=torch.float32)


def scaled_linear_betas(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    """sqrt(beta) linear in t (what Stable Diffusion's code calls "linear"; Rombach et al. 2022)."""
    return torch.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=torch.float32) ** 2


def cosine_betas(num_timesteps: int, _beta_start: float, _beta_end: float) -> Tensor:
    """abar follows a squared cosine, beta capped at 0.999 (Nichol & Dhariwal 2021, eq. 17). Has no beta range."""

    def alpha_bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    steps = range(num_timesteps)
    ratios = [alpha_bar((i + 1) / num_timesteps) / alpha_bar(i / num_timesteps) for i in steps]
    return torch.tensor([min(1 - ratio, 0.999) for ratio in ratios], dtype=torch.float32)


SCHEDULES: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "cosine": cosine_betas,
}
"""Those that have betas."""
DIFFUSERS_NAMES = {"cosine": "squaredcos_cap_v2"}
"""Of those that diffusers calls otherwise."""
FLOW = "flow"
"""The one that has none: see `FlowSchedule`."""
if TYPE_CHECKING:  # a type checker takes no Literal that is computed
    ScheduleName = str
else:
    ScheduleName = Literal[(*SCHEDULES, FLOW)]


class Schedule(ABC):
    """A forward process `z_t = a z0 + b eps` over `num_timesteps` steps, from nearly clean to nearly noise."""

    name: str

    @property
    @abstractmethod
    def timesteps(self) -> Tensor:
        """(T,): what the network is told at every step, ascending."""

    @abstractmethod
    def at(self, timestep: Tensor | float) -> Amplitudes:
        """(a, b) where the network is told `timestep`, of its shape."""

    @property
    def first_timestep(self) -> int:
        """What the network is told where next to no noise is: 0 along betas, 1 along a flow."""
        return int(self.timesteps[0])

    @property
    def num_timesteps(self) -> int:
        return len(self.timesteps)

    @property
    def amplitudes(self) -> Amplitudes:
        """(a, b) of every step, `(T,)` each."""
        return self.at(self.timesteps)

    @property
    def snr(self) -> Tensor:
        """(T,): signal-to-noise ratio a^2 / b^2 of unit-variance data (Kingma et al. 2021)."""
        return self.amplitudes.snr

    @property
    def signal_share(self) -> Tensor:
        """(T,): the share of signal in the variance of noisy unit-variance data; abar where variance is preserved."""
        return self.amplitudes.signal_share

    @property
    def ends_in_noise(self) -> bool:
        """Whether pure noise, from which sampling starts, is near to what training saw at the last step."""
        return float(self.snr[-1]) <= MAX_TERMINAL_SNR

    @property
    def half_step(self) -> int | None:
        """The first step at which less than half of the variance of unit-variance data is signal, or None."""
        below = torch.nonzero(self.snr < 1)
        return int(below[0]) if len(below) else None


@dataclass(frozen=True)
class BetaSchedule(Schedule):
    """A variance-preserving process: `z_t = sqrt(alpha_bars[t]) z0 + sqrt(1 - alpha_bars[t]) eps`, t in 0..T - 1."""

    name: str
    betas: Tensor  # (T,) float32

    @property
    def timesteps(self) -> Tensor:
        return torch.arange(len(self.betas))

    def at(self, timestep: Tensor | float) -> Amplitudes:
        told = torch.as_tensor(timestep).long()
        if told.device not in self._alpha_bars_on:
            self._alpha_bars_on[told.device] = self.alpha_bars.to(told.device)
        return amplitudes_of(self._alpha_bars_on[told.device][told])

    @cached_property
    def _alpha_bars_on(self) -> dict[torch.device, Tensor]:
        """By device: a copy to a GPU waits for it, and training would wait at every step."""
        return {}

    @property
    def alphas(self) -> Tensor:
        """(T,): 1 - beta."""
        return 1 - self.betas

    @property
    def alpha_bars(self) -> Tensor:
        """(T,): running product of alphas; diffusers' `alphas_cumprod`, bit for bit."""
        return torch.cumprod(self.alphas, 0)

    @property
    def snr(self) -> Tensor:
        return self.alpha_bars / (1 - self.alpha_bars)

    @property
    def signal_share(self) -> Tensor:
        return self.alpha_bars

    def with_zero_terminal_snr(self) -> "BetaSchedule":
        """sqrt(abar) shifted and scaled so that the last step holds nothing of the image (Lin et al. 2023, alg. 1)."""
        roots = self.alpha_bars.double().sqrt()
        first, last = roots[0], roots[-1]
        alpha_bars = ((roots - last) * first / (first - last)).square()
        alphas = torch.cat([alpha_bars[:1], alpha_bars[1:] / alpha_bars[:-1]])
        return BetaSchedule(self.name, (1 - alphas).float())


@dataclass(frozen=True)
class FlowSchedule(Schedule):
    """The straight line of rectified flow: `z = (1 - s) z0 + s eps`, s in (0, 1] (Liu et al. 2023; Lipman et al. 2023).

    Data lies at s = 0, as in diffusers; in many papers it lies at 1. The network is told T s, in (0, T] and not always
    a whole number.
    """

    length: int
    """T, the network's time at pure noise."""
    name: str = FLOW

    @property
    def timesteps(self) -> Tensor:
        return torch.arange(1, self.length + 1).float()

    def at(self, timestep: Tensor | float) -> Amplitudes:
        s = torch.as_tensor(timestep).float() / self.length
        return Amplitudes(1 - s, s)


def make_schedule(
    name: str,
    num_timesteps: int = DEFAULT_NUM_TIMESTEPS,
    beta_start: float = DEFAULT_BETA_START,
    beta_end: float = DEFAULT_BETA_END,
    *,
    zero_terminal_snr: bool = False,
) -> BetaSchedule:
    """Build a schedule of betas by name; the cosine schedule has no beta range and ignores it.

    `zero_terminal_snr` rescales it so that the last step holds nothing of the image.

    Raises `ValueError` for an unknown name, fewer than 2 or more than 10,000 timesteps, or betas outside
    0 < start <= end < 1.
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)}")
    _check_length(num_timesteps)
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(f"beta range {beta_start} to {beta_end}: give 0 < beta_start <= beta_end < 1")
    schedule = BetaSchedule(name, SCHEDULES[name](num_timesteps, beta_start, beta_end))
    return schedule.with_zero_terminal_snr() if zero_terminal_snr else schedule


def schedule_named(name: str, num_timesteps: int = DEFAULT_NUM_TIMESTEPS, zero_terminal_snr: bool = False) -> Schedule:
    """The schedule of a training's options, of betas or a flow. Raises `ValueError` as `make_schedule` does."""
    if name != FLOW:
        if name not in SCHEDULES:
            raise ValueError(f"unknown schedule {name!r}: choose one of {', '.join((*SCHEDULES, FLOW))}")
        return make_schedule(name, num_timesteps, zero_terminal_snr=zero_terminal_snr)
    _check_length(num_timesteps)
    return FlowSchedule(num_timesteps)


def _check_length(num_timesteps: int) -> None:
    if num_timesteps < 2:
        raise ValueError(f"num_timesteps is {num_timesteps}: a schedule needs at least 2")
    if num_timesteps > MAX_NUM_TIMESTEPS:
        raise ValueError(f"num_timesteps is {num_timesteps}: a schedule has at most {MAX_NUM_TIMESTEPS}")
