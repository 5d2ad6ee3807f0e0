"""How much signal and how much noise a noisy latent holds: the pair (a, b) of z_t = a z0 + b eps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Amplitudes:
    """(a, b), of one shape: of the steps of a schedule, or of the images of a batch."""

    a: Tensor
    b: Tensor

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, index: int | slice | Tensor | list[int] | tuple) -> "Amplitudes":
        return self.map(lambda values: values[index])

    def map(self, function: Callable[[Tensor], Tensor]) -> "Amplitudes":
        """The same of both."""
        return Amplitudes(function(self.a), function(self.b))

    @property
    def snr(self) -> Tensor:
        """a^2 / b^2, the signal-to-noise ratio of unit-variance data."""
        return (self.a / self.b).square()

    @property
    def signal_share(self) -> Tensor:
        """a^2 / (a^2 + b^2), the share of the variance that is signal; abar where variance is preserved."""
        return self.a.square() / (self.a.square() + self.b.square())

    @property
    def flow_time(self) -> Tensor:
        """s = b / (a + b): divided by a + b, z_t is (1 - s) z0 + s eps, where a flow is at that time."""
        return self.b / (self.a + self.b)

    @property
    def preserve_variance(self) -> bool:
        """Whether a^2 + b^2 is 1 everywhere, as v-prediction needs."""
        return bool(torch.allclose(self.a.square() + self.b.square(), torch.ones_like(self.a), atol=1e-4))


def amplitudes_of(mixed: Tensor | Amplitudes) -> Amplitudes:
    """(a, b) where they are given, or those of the alpha_bars of a schedule that preserves variance."""
    return mixed if isinstance(mixed, Amplitudes) else Amplitudes(mixed.sqrt(), (1 - mixed).sqrt())
