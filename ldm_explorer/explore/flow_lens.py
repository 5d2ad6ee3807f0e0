"""How straight is the way from noise to an image? A sampling path of any schedule in the coordinates of a flow.

z_t = a z0 + b eps divided by a + b is (1 - s) z0 + s eps at s = b / (a + b), where a flow is. So whatever a network
predicts, it is also a flow's network, with u = eps - z0 of what it predicts: no retraining is needed to see it so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes
from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER, denoiser_of
from ldm_explorer.explore.denoising import check_cost, check_finite, labels_to_denoise
from ldm_explorer.lazy import cached_property
from ldm_explorer.samplers import is_trial
from ldm_explorer.schedules import FlowSchedule, Schedule

NUM_PATHS = 8
"""Images whose paths are averaged."""
_COUNTS = {"v_prediction": "1 / b² (SNR + 1)", "epsilon": "a² / b² (the SNR)", "sample": "1", "flow": "(a + b)² / b²"}
"""By what a network predicts, along schedules that preserve variance: `prediction.Coefficients.over_z0` squared."""


@dataclass(frozen=True, eq=False)
class Path:
    """Where a sampler took B latents in N steps: N + 1 points of `(B, D)`, the first one pure noise."""

    points: Tensor

    @property
    def straightness(self) -> float:
        """The mean over images of (sum of |step|) / |end - start|: 1 is a straight line."""
        steps = self.points.diff(dim=0).norm(dim=-1).sum(0)
        return float((steps / self._chord.norm(dim=-1)).mean())

    @cached_property
    def off_chord(self) -> tuple[Tensor, Tensor]:
        """How far along the straight line from start to end, and how far off it, `(N + 1,)`, in lengths of that line:
        the means over images."""
        chord, moved = self._chord, self.points - self.points[0]
        along = (moved * chord).sum(-1) / chord.square().sum(-1)
        off = (moved - along[..., None] * chord).norm(dim=-1) / chord.norm(dim=-1)
        return along.mean(-1), off.mean(-1)

    @property
    def _chord(self) -> Tensor:
        return self.points[-1] - self.points[0]


@dataclass(frozen=True, eq=False)
class FlowLens:
    """One sampling path twice: `own` are the latents z_t, `flow` the same divided by a + b, at the times `s (N + 1,)`
    from 1 to 0."""

    s: Tensor
    own: Path
    flow: Path


def to_flow(z_t: Tensor, mixed: Amplitudes) -> tuple[Tensor, Tensor]:
    """A noisy latent `(B, ...)` in the coordinates of a flow, z_t / (a + b), and its time s = b / (a + b)."""
    return z_t / (mixed.a + mixed.b), mixed.flow_time


def view_as_flow(
    checkpoint: Checkpoint,
    class_name: str | None,
    seed: int,
    *,
    sampler: str,
    num_steps: int,
    guidance_scale: float,
    denoiser: str = DEFAULT_DENOISER,
    max_gflops: float = math.inf,
) -> FlowLens:
    """Sample images of seeds seed, seed + 1, ... and keep their paths. Raises `ValueError` as `denoise_images` does."""
    num_images, labels = labels_to_denoise(checkpoint, class_name, NUM_PATHS)
    check_cost(checkpoint, num_images, num_steps, guidance_scale != 1, max_gflops, least_images=num_images)
    steps = checkpoint.pipeline.denoise(
        labels,
        range(seed, seed + num_images),
        num_inference_steps=num_steps,
        guidance_scale=guidance_scale,
        sampler=sampler,
        denoiser=denoiser_of(denoiser, checkpoint),
    )
    own, flow, times = [], [], []
    for step in steps:
        check_finite(checkpoint, step.z_next)
        if is_trial(sampler, step.index):
            continue
        x, s = to_flow(step.z_t, checkpoint.schedule.at(step.timestep))
        own.append(step.z_t.flatten(1))
        flow.append(x.flatten(1))
        times.append(s)
    end = step.z_next.flatten(1)
    return FlowLens(torch.stack([*times, torch.zeros(())]), *(Path(torch.stack([*part, end])) for part in (own, flow)))


def time_in(schedule: Schedule, low: float, high: float) -> float:
    """The share of training that uniform timesteps of a schedule spend where low < s <= high, in a flow's time."""
    s = schedule.amplitudes.flow_time
    return float(((s > low) & (s <= high)).float().mean())


def retraining(schedule: Schedule, prediction_type: str) -> Sequence[str]:
    """What training it anew as a flow would change, in sentences; none for what is a flow already."""
    if isinstance(schedule, FlowSchedule):
        return ()
    noisy, clean = time_in(schedule, 0.9, 1.0), time_in(schedule, 0.0, 0.1)
    return (
        f"Where training looks: uniform t of this schedule is {noisy:.0%} of the time at s above .9, where there is "
        f"hardly any image, and {clean:.0%} at s below .1; a flow's uniform s is 10 % of the time in either.",
        f"What an error counts: one of z0 counts {_COUNTS[prediction_type]} times in this network's loss, and 1 / s² "
        "times in a flow's.",
        "What the network is told and given: s in place of t, and inputs whose variance is (1 - s)² + s², at its least "
        "half, in place of 1.",
    )
