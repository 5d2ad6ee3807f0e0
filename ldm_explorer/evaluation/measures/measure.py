"""What is said of a measure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["higher", "lower", "neither"]
Section = Literal["reconstruction", "latent_space", "continuity", "generation", "real", "cost", "loss", "derived"]
"""Where a measure stands in an evaluation. Those of "real" images are stored beside what they make readable; those that
are "derived" follow from stored ones and are stored nowhere."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """An entry of the registry: it shows in the Markdown tables, the docs, the app and its CSV files."""

    name: str  # as stored in metrics.json
    section: Section
    title: str
    definition: str  # one sentence, that says how it is read, too
    better: Better
    unit: str = ""
    label: str = ""  # short, where it stands beside another measure
    asks: str = ""  # what it asks about, where latents are compared in words
    beside: tuple[str, ...] = ()  # the measures that make it readable: its floor, ceiling or spread
    source: str = ""  # of the formula
    of: Callable[[Any], float | None] | None = None
    """Computes it from `AutoencoderInputs`, where it is of generated images from `SampleInputs`, of real ones from
    `ImageInputs`, and where it is derived from the stored measures by name; None where the evaluation gets it in
    another way."""
    in_tables: bool = True
    in_app: bool = True  # on its own; what stands beside another one is shown with that

    @property
    def heading(self) -> str:
        """As "PSNR dB"."""
        return f"{self.title} {self.unit}".rstrip()

    @property
    def in_units(self) -> str:
        """As "PSNR in dB"."""
        return f"{self.title} in {self.unit}" if self.unit else self.title

    @property
    def goal(self) -> str:
        """As "higher is better"."""
        return f"{self.better} is better"
