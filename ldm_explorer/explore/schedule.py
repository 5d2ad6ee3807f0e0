"""How fast does noise take over?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import crop
from ldm_explorer.prediction import add_noise
from ldm_explorer.samplers import draw_noise
from ldm_explorer.schedules import SCHEDULES, BetaSchedule, Schedule, make_schedule


def compare_schedules(num_timesteps: int, beta_start: float, beta_end: float) -> tuple[BetaSchedule, ...]:
    """Every registered schedule over the same T and beta range. Raises `ValueError` as `make_schedule` does."""
    return tuple(make_schedule(name, num_timesteps, beta_start, beta_end) for name in SCHEDULES)


def describe(schedule: BetaSchedule) -> str:
    """The terminal SNR and the step at which abar falls below one half, in words."""
    terminal, half = float(schedule.snr[-1]), schedule.half_step
    leftover = f"the last step still holds {float(schedule.alpha_bars[-1].sqrt()):.2g} of the signal's amplitude"
    if half is None:
        crossing = "abar never falls below one half: noise never takes over"
    else:
        share = half / schedule.num_timesteps
        crossing = f"abar falls below one half at t = {half} ({share:.0%} of the way)"
    return f"{crossing}; the terminal SNR is {terminal:.2g}, so {leftover}"


@dataclass(frozen=True)
class NoisedImage:
    """One image noised along one schedule, with the same noise at every timestep; `(n, C, side, side)` in [-1, 1]."""

    schedule: Schedule
    timesteps: tuple[int, ...]  # places among the steps, from 0 on
    pixels: Tensor  # noise added to pixels
    decoded: Tensor  # noise added to the latent, then decoded


def noise_image(
    checkpoint: Checkpoint, pixels: Tensor, schedules: Sequence[Schedule], seed: int, num_columns: int = 7
) -> tuple[NoisedImage, ...]:
    """Noise one padded image `(1, C, S, S)` at evenly spaced timesteps, in pixels and in latents."""
    codec, spec = checkpoint.codec, checkpoint.spec
    latents = codec.encode(pixels)
    pixel_noise, _ = draw_noise(pixels.shape[1:], [seed])
    latent_noise, _ = draw_noise(latents.shape[1:], [seed])
    noised = []
    for schedule in schedules:
        timesteps = torch.linspace(0, schedule.num_timesteps - 1, num_columns).round().long()
        mixed = schedule.amplitudes[timesteps]
        in_pixels = add_noise(pixels.expand(num_columns, -1, -1, -1), pixel_noise, mixed)
        in_latents = add_noise(latents.expand(num_columns, -1, -1, -1), latent_noise, mixed)
        decoded = codec.decode(in_latents)
        noised.append(
            NoisedImage(
                schedule,
                tuple(timesteps.tolist()),
                crop(in_pixels, spec).clamp(-1, 1),
                crop(decoded, spec).clamp(-1, 1),
            )
        )
    return tuple(noised)
