"""What is velocity? (z0, eps) turned by the schedule's angle into (z_t, v), on one real latent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes, amplitudes_of
from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.latents import decode_images
from ldm_explorer.lazy import cached_property
from ldm_explorer.prediction import add_noise, target, to_eps, to_z0
from ldm_explorer.samplers import draw_noise
from ldm_explorer.schedules import BetaSchedule, make_schedule

CLEAN = -1
"""The step before t = 0: the clean latent, abar = 1."""
DEFAULT_STRIDE = 150
"""Timesteps from t to s, as many as a sampler of seven steps takes at once."""


@dataclass(frozen=True, eq=False)
class VelocityView:
    """One latent and one noise, mixed at step t and taken one DDIM step to s; all latents `(c, h, w)`, normalised."""

    alpha_bars: Tensor  # (T,)
    t: int
    s: int  # 0 .. t - 1, or CLEAN
    z0: Tensor
    eps: Tensor

    @property
    def alpha_bar(self) -> Tensor:
        return self.alpha_bars[self.t]

    @property
    def alpha_bar_s(self) -> Tensor:
        return self.alpha_bars.new_ones(()) if self.s == CLEAN else self.alpha_bars[self.s]

    @property
    def amplitudes(self) -> tuple[float, float]:
        """(a, b) at t."""
        return _floats(amplitudes_of(self.alpha_bar))

    @property
    def amplitudes_s(self) -> tuple[float, float]:
        return _floats(amplitudes_of(self.alpha_bar_s))

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
        return add_noise(self.z0, self.eps, self.alpha_bar)

    @cached_property
    def v(self) -> Tensor:
        return target("v_prediction", self.z0, self.eps, self.alpha_bar)

    @cached_property
    def z0_back(self) -> Tensor:
        """a z_t - b v"""
        return to_z0("v_prediction", self.v, self.z_t, self.alpha_bar)

    @cached_property
    def eps_back(self) -> Tensor:
        """b z_t + a v"""
        return to_eps("v_prediction", self.v, self.z_t, self.alpha_bar)

    @cached_property
    def z_s(self) -> Tensor:
        """One DDIM step from z_t and v alone (Song et al. 2021, eq. 12 with sigma = 0)."""
        return add_noise(self.z0_back, self.eps_back, self.alpha_bar_s)


def _floats(pair: Amplitudes) -> tuple[float, float]:
    return float(pair.a), float(pair.b)


def schedule_of(checkpoint: Checkpoint) -> tuple[Tensor, str]:
    """abar `(T,)` of a checkpoint's own schedule, or the cosine ones for what has none; and whose they are."""
    cosine = make_schedule("cosine").alpha_bars
    if not checkpoint.has_denoiser:
        return cosine, f"a cosine schedule, as {checkpoint.name} is an autoencoder without one"
    if isinstance(checkpoint.schedule, BetaSchedule):
        return checkpoint.schedule.alpha_bars, f"the schedule that {checkpoint.name} was trained with"
    return cosine, f"a cosine schedule, as {checkpoint.name} is a flow, whose velocity is u = eps - z0 and not v"


def view_velocity(checkpoint: Checkpoint, pixels: Tensor, seed: int, t: int, stride: int) -> VelocityView:
    """Encode one padded image `(1, C, S, S)`, draw noise, and step from t to t - stride, or to the clean latent.

    Raises `ValueError` for a t outside the schedule or a stride below 1.
    """
    alpha_bars, _ = schedule_of(checkpoint)
    if not 0 <= t < len(alpha_bars):
        raise ValueError(f"t is {t}: give 0 to {len(alpha_bars) - 1}, the schedule's steps")
    if stride < 1:
        raise ValueError(f"the step goes {stride} timesteps back: give at least 1")
    z0 = checkpoint.codec.encode(pixels)[0].cpu()
    noise, _ = draw_noise(z0.shape, [seed])
    return VelocityView(alpha_bars, t, max(t - stride, CLEAN), z0, noise[0])


def view_schedule(checkpoint: Checkpoint, pixels: Tensor, seed: int, stride: int, num_views: int) -> list[VelocityView]:
    """The same latent and noise at evenly spaced timesteps, from t = 0 to the schedule's last."""
    first = view_velocity(checkpoint, pixels, seed, 0, stride)
    timesteps = torch.linspace(0, len(first.alpha_bars) - 1, num_views).round().long().tolist()
    return [replace(first, t=t, s=max(t - stride, CLEAN)) for t in timesteps]


def decode_latents(checkpoint: Checkpoint, views: Sequence[VelocityView]) -> list[dict[str, Tensor]]:
    """z0, eps, z_t, v and z_s of views of one latent as the autoencoder paints them, `(C, side, side) uint8` each."""
    both = [views[0].z0, views[0].eps]
    moving = [latent for view in views for latent in (view.z_t, view.v, view.z_s)]
    z0, eps, *images = decode_images(checkpoint.codec, torch.stack(both + moving), checkpoint.spec)
    of_view = zip(images[::3], images[1::3], images[2::3], strict=True)
    return [{"z0": z0, "eps": eps, "z_t": z_t, "v": v, "z_s": z_s} for z_t, v, z_s in of_view]


def rms(latent: Tensor) -> float:
    """Root of the mean square, the length over the root of the number of values: about 1 for a normalised latent."""
    return float(latent.square().mean().sqrt())


def cosine(one: Tensor, other: Tensor) -> float:
    """Cosine of the angle between two latents, -1 .. 1."""
    return float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0))
