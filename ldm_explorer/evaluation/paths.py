"""What happens on the straight line between two latents, and how far the decoder moves at a point of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp

from ldm_explorer.data import DatasetSpec, crop
from ldm_explorer.latents import BatchMap, LatentCodec, in_batches

NUM_STEPS = 16
SEED = 0


@dataclass(frozen=True)
class Paths:
    """Means over pairs of test images."""

    length_over_chord: float  # sum of decoded steps over the distance between the ends; 1: straight in pixels too
    largest_step_over_mean: float  # 1: even steps; NUM_STEPS: all at once
    stretch: float  # |J_D u|: pixel L2 per unit of latent L2, along the path
    stretch_variation: float  # its coefficient of variation over pairs; 0: the decoder stretches everywhere alike


def lerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The point at `share` of the straight line from a to b."""
    return a + share * (b - a)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The point at `share` of the arc from a to b `(N, c, h, w)`, each latent as one vector (Shoemake 1985).

    Falls back to the straight line where the two point the same way, or opposite ways, or one is 0.
    """
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cosine = torch.cosine_similarity(flat_a, flat_b, dim=1)
    angle = cosine.clamp(-1, 1).acos().view(-1, 1, 1, 1)
    sine = angle.sin()
    arc = ((1 - share) * angle).sin() / sine * a + (share * angle).sin() / sine * b
    return torch.where(sine > 1e-4, arc, lerp(a, b, share))


def path_lengths(
    decode: Callable[[Tensor], Tensor], a: Tensor, b: Tensor, batched: BatchMap = in_batches
) -> tuple[Tensor, Tensor]:
    """Measure straight paths from `a` to `b` `(N, c, h, w)`: length over chord, largest over mean step, both `(N,)`."""

    def measured(indices: Tensor) -> Tensor:
        ends = a[indices], b[indices]
        first = last = decode(ends[0]).flatten(1)
        steps = []
        for step in range(1, NUM_STEPS + 1):
            previous, last = last, decode(lerp(*ends, step / NUM_STEPS)).flatten(1)
            steps.append((last - previous).norm(dim=1))
        lengths, tiny = torch.stack(steps, 1), torch.finfo(torch.float32).tiny
        length = lengths.sum(1)
        ratios = (
            length / (last - first).norm(dim=1).clamp_min(tiny),
            lengths.amax(1) * NUM_STEPS / length.clamp_min(tiny),
        )
        return torch.stack(ratios, 1).cpu()

    ratios = batched(measured, torch.arange(len(a)), "paths")
    return ratios[:, 0], ratios[:, 1]


def local_stretch(
    decode: Callable[[Tensor], Tensor], points: Tensor, directions: Tensor, batched: BatchMap = in_batches
) -> Tensor:
    """|J u| `(N,)` at `points (N, c, h, w)` for u = `directions` at unit length, by forward-mode differentiation."""

    def stretch(indices: Tensor) -> Tensor:
        direction = directions[indices]
        unit = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return jvp(decode, (points[indices],), (unit,))[1].flatten(1).norm(dim=1).detach().cpu()

    return batched(stretch, torch.arange(len(points)), "stretch")


def measure_paths(
    codec: LatentCodec, a: Tensor, b: Tensor, spec: DatasetSpec, batched: BatchMap = in_batches
) -> Paths | None:
    """Between latents `a` and `b` `(N, c, h, w)`, equal ones left out; the stretch is taken at a random point of each.

    None where there are not two pairs.
    """
    differ = (a != b).flatten(1).any(1)
    a, b = a[differ], b[differ]
    if len(a) < 2:
        return None
    over_chord, over_mean = path_lengths(lambda z: crop(codec.decode(z).clamp(-1, 1), spec), a, b, batched)
    shares = torch.rand(len(a), 1, 1, 1, generator=torch.Generator().manual_seed(SEED))
    stretch = local_stretch(lambda z: crop(codec.decode_with_gradient(z), spec), a + shares * (b - a), b - a, batched)
    return Paths(
        float(over_chord.mean()), float(over_mean.mean()), float(stretch.mean()), float(stretch.std() / stretch.mean())
    )
