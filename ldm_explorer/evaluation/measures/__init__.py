"""The registry of measures: by its stored name, what each is called, what it says and what makes it readable.

To add one, write its entry into RECONSTRUCTION, LATENT_SPACE, CONTINUITY or GENERATION, with `of`, which computes it.
"""

from collections.abc import Container, Iterator
from typing import Any

from ldm_explorer.evaluation.measures.autoencoder import CONTINUITY, LATENT_SPACE, RECONSTRUCTION
from ldm_explorer.evaluation.measures.denoiser import COST, GENERATION, LOSS, SPREADS
from ldm_explorer.evaluation.measures.measure import Better, Measure, Section

__all__ = [
    "MEASURES",
    "SETTINGS",
    "SPREADS",
    "Better",
    "Measure",
    "Section",
    "compute",
    "derive",
    "measures_table",
    "on_their_own",
]

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (*RECONSTRUCTION, *LATENT_SPACE, *CONTINUITY, *GENERATION, *COST, *LOSS, *SPREADS)
}
SETTINGS = {
    "num_images": "images that were measured",
    "num_paths": "pairs of images between which paths were measured",
    "num_real_images": "held-out real images that the floors are of",
    "pixels": "numbers in one image",
    "seeds": "sampling seeds",
    "sampler": "sampler of the samples",
    "evaluations": "network evaluations per sample",
    "prediction": "what the denoiser predicts",
    "validation_per_bin": "the last validation loss in equal parts of the timesteps",
    "floors": "the floors of the loss, by name",
    "floors_per_bin": "the same in equal parts of the timesteps",
}
"""What an evaluation stores beside its measures: how they were taken, and the loss in detail."""


def compute(section: Section, inputs: Any) -> dict[str, float | None]:
    """The measures of a section that are computed from `inputs`: see `Measure.of`."""
    return {name: item.of(inputs) for name, item in MEASURES.items() if item.section == section and item.of}


def derive(stored: dict[str, Any]) -> dict[str, float]:
    """The derived measures that follow from stored ones by name; those that lack one are left out."""
    derived = {}
    for name, item in MEASURES.items():
        if item.section == "derived" and item.of:
            try:
                value = item.of(stored)
            except KeyError:
                continue
            if value is not None:
                derived[name] = value
    return derived


def on_their_own(sections: Container[Section]) -> Iterator[Measure]:
    """The measures of these sections that the app shows and that stand beside no other one."""
    companions = {name for item in MEASURES.values() for name in item.beside}
    return (m for m in MEASURES.values() if m.section in sections and m.in_app and m.name not in companions)


def measures_table() -> str:
    """Every measure as Markdown, but for the spreads over sampling seeds, NAME_spread."""
    lines = ["| measure | stored as | better | what it is | beside it |", "| --- | --- | --- | --- | --- |"]
    for item in MEASURES.values():
        if item not in SPREADS:
            source = f" ({item.source})" if item.source else ""
            beside = ", ".join(MEASURES[name].title for name in item.beside)
            better = "" if item.better == "neither" else item.better
            unit = f", {item.unit}" if item.unit else ""
            lines.append(f"| {item.title}{unit} | `{item.name}` | {better} | {item.definition}{source} | {beside} |")
    return "\n".join(lines)
