"""What is velocity? (z0, eps) turned by the schedule's angle into (z_t, v), on one real latent.

Along a flow (z0, eps) becomes (z_t, u): z_t moves on the straight line between them, and u is the same all along it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes, amplitudes_of
from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.latents import decode_images
from ldm_explorer.lazy import cached_property
from ldm_explorer.prediction import PredictionType, add_noise, target, to_eps, to_z0
from ldm_explorer.samplers import draw_noise
from ldm_explorer.schedules import FlowSchedule, Schedule, make_schedule

CLEAN = -1
"""The step before t = 0: the clean latent, abar = 1."""
DEFAULT_STRIDE = 150
"""Timesteps from t to s, as many as a sampler of seven steps takes at once."""


@dataclass(frozen=True, eq=False)
class VelocityView:
    """One latent and one noise, mixed at step t and taken one DDIM step to s; all latents `(c, h, w)`, normalised."""

    steps: Amplitudes  # (T,)
    t: int  # of these steps
    s: int  # 0 .. t - 1, or CLEAN
    z0: Tensor
    eps: Tensor
    is_flow: bool = False
    """Whether the velocity is a flow's, u, and not v."""

    @property
    def told(self) -> int:
        """The timestep that a network is told: that of a flow's step is t + 1, which is 1000 s."""
        return self.t + 1 if self.is_flow else self.t

    @property
    def mixed(self) -> Amplitudes:
        return self.steps[self.t]

    @property
    def mixed_s(self) -> Amplitudes:
        return amplitudes_of(torch.ones(())) if self.s == CLEAN else self.steps[self.s]

    @property
    def amplitudes(self) -> tuple[float, float]:
        """(a, b) at t."""
        return _floats(self.mixed)

    @property
    def amplitudes_s(self) -> tuple[float, float]:
        return _floats(self.mixed_s)

    @property
    def angle(self) -> float:
        """phi in radians, 0 .. pi / 2: cos phi = a, sin phi = b."""
        a, b = self.amplitudes
        return math.atan2(b, a)

    @property
    def angle_s(self) -> float:
        a, b = self.amplitudes_s
        return math.atan2(b, a)

    @cached_property
    def z_t(self) -> Tensor:
        return add_noise(self.z0, self.eps, self.mixed)

    @cached_property
    def v(self) -> Tensor:
        """The velocity along the circle, a eps - b z0 (Salimans & Ho 2022)."""
        return target("v_prediction", self.z0, self.eps, self.mixed)

    @cached_property
    def u(self) -> Tensor:
        """The velocity along the straight line, eps - z0 (Lipman et al. 2023; Liu et al. 2023)."""
        return target("flow", self.z0, self.eps, self.mixed)

    @property
    def velocity(self) -> Tensor:
        """That of this schedule: u of a flow, else v."""
        return self.u if self.is_flow else self.v

    @cached_property
    def z0_back(self) -> Tensor:
        """a z_t - b v, or z_t - s u of a flow."""
        return to_z0(self._kind, self.velocity, self.z_t, self.mixed)

    @cached_property
    def eps_back(self) -> Tensor:
        """b z_t + a v, or z_t + (1 - s) u of a flow."""
        return to_eps(self._kind, self.velocity, self.z_t, self.mixed)

    @cached_property
    def z_s(self) -> Tensor:
        """One step from z_t and the velocity alone: DDIM (Song et al. 2021, eq. 12 with sigma = 0), of a flow Euler."""
        return add_noise(self.z0_back, self.eps_back, self.mixed_s)

    @property
    def _kind(self) -> PredictionType:
        return "flow" if self.is_flow else "v_prediction"


def _floats(pair: Amplitudes) -> tuple[float, float]:
    return float(pair.a), float(pair.b)


def schedule_of(checkpoint: Checkpoint) -> tuple[Schedule, str]:
    """A checkpoint's own schedule, or the cosine one for what has none; and whose it is."""
    if not checkpoint.has_denoiser:
        return make_schedule("cosine"), f"a cosine schedule, as {checkpoint.name} is an autoencoder without one"
    kind = "flow" if isinstance(checkpoint.schedule, FlowSchedule) else "schedule"
    return checkpoint.schedule, f"the {kind} that {checkpoint.name} was trained with"


def view_velocity(checkpoint: Checkpoint, pixels: Tensor, seed: int, t: int, stride: int) -> VelocityView:
    """Encode one padded image `(1, C, S, S)`, draw noise, and step from t to t - stride, or to the clean latent.

    Raises `ValueError` for a t outside the schedule or a stride below 1.
    """
    schedule, _ = schedule_of(checkpoint)
    last = schedule.num_timesteps - 1
    if not 0 <= t <= last:
        raise ValueError(f"t is {t}: give 0 to {last}, the schedule's steps")
    if stride < 1:
        raise ValueError(f"the step goes {stride} timesteps back: give at least 1")
    z0 = checkpoint.codec.encode(pixels)[0].cpu()
    noise, _ = draw_noise(z0.shape, [seed])
    is_flow = isinstance(schedule, FlowSchedule)
    return VelocityView(schedule.amplitudes, t, max(t - stride, CLEAN), z0, noise[0], is_flow)


def view_schedule(checkpoint: Checkpoint, pixels: Tensor, seed: int, stride: int, num_views: int) -> list[VelocityView]:
    """The same latent and noise at evenly spaced timesteps, from t = 0 to the schedule's last."""
    first = view_velocity(checkpoint, pixels, seed, 0, stride)
    timesteps = torch.linspace(0, len(first.steps) - 1, num_views).round().long().tolist()
    return [replace(first, t=t, s=max(t - stride, CLEAN)) for t in timesteps]


def decode_latents(checkpoint: Checkpoint, views: Sequence[VelocityView]) -> list[dict[str, Tensor]]:
    """What each view of one latent holds as the autoencoder paints it, `(C, side, side) uint8` by name; v but of a
    flow."""
    still = ("z0", "eps", "u")
    moving = ("z_t", "z_s") if views[0].is_flow else ("z_t", "v", "z_s")
    latents = [getattr(views[0], name) for name in still]
    latents += [getattr(view, name) for view in views for name in moving]
    images = iter(decode_images(checkpoint.codec, torch.stack(latents), checkpoint.spec))
    shared = {name: next(images) for name in still}
    return [shared | {name: next(images) for name in moving} for _ in views]


def rms(latent: Tensor) -> float:
    """Root of the mean square, the length over the root of the number of values: about 1 for a normalised latent."""
    return float(latent.square().mean().sqrt())


def cosine(one: Tensor, other: Tensor) -> float:
    """Cosine of the angle between two latents, -1 .. 1."""
    return float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0))
