"""Twins: denoisers on the same latents that differ in network, schedule and target alone, and in their seed."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.evaluation.reference import flat_measures
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import latent_size
from ldm_explorer.explore.size_answer import Difference
from ldm_explorer.explore.size_measures import family_names, is_of_its_shape
from ldm_explorer.explore.training_words import TARGETS

MEASURE = "fd_percent"
NO_TWINS = "Here are no two denoisers on the same latents that differ in their network or their target alone."


@dataclass(frozen=True)
class Twin:
    """One network along one schedule, trained with one seed or several."""

    network: str
    schedule: str
    target: str
    names: tuple[str, ...]
    fd_percent: tuple[float, ...]  # one for each training seed: the mean over sampling seeds
    sampling_spread: tuple[float, ...]  # largest minus smallest over sampling seeds
    cpu_minutes: tuple[float | None, ...]
    way: tuple[Any, Any]  # the sampler and its evaluations

    @property
    def label(self) -> str:
        return f"{self.network}, {self.schedule}, {self.target}"

    @property
    def mean(self) -> float:
        return sum(self.fd_percent) / len(self.fd_percent)

    @property
    def spread(self) -> float | None:
        """How far seeds move it, relative to it; None of one training seed.

        Largest minus smallest over training seeds, and over sampling seeds where those move it more: two trainings may
        be near each other by chance.
        """
        if len(self.fd_percent) < 2:
            return None
        return max(max(self.fd_percent) - min(self.fd_percent), *self.sampling_spread) / self.mean


@dataclass(frozen=True)
class Twins:
    """The family's denoisers over one autoencoder, the one that stands for its shape first."""

    latent: str
    twins: tuple[Twin, ...]
    rfd_percent: float | None
    fd_floor_percent: float | None

    @property
    def spread(self) -> float | None:
        """How far seeds move the measure, relative to it: of the twins with several training seeds the largest."""
        return max((known for twin in self.twins if (known := twin.spread) is not None), default=None)

    def csv(self) -> str:
        """A line for each training; an empty cell for what was not kept."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["checkpoint", "network", "schedule", "target", MEASURE, f"{MEASURE}_spread", "cpu_minutes"])
        writer.writerows(self._rows)
        return table.getvalue()

    def markdown(self) -> str:
        """The same for a text."""
        title = MEASURES[MEASURE].heading
        head = ["checkpoint", "network", "schedule", "target", title, "largest minus smallest of sampling seeds"]
        rows = [head, ["---"] * len(head)]
        rows += [[*map(str, row[:4]), f"{row[4]:.3g}", f"{row[5]:.2g}"] for row in self._rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    @property
    def _rows(self) -> list[tuple[Any, ...]]:
        return [
            (name, twin.network, twin.schedule, twin.target, *measured)
            for twin in self.twins
            for name, *measured in zip(twin.names, twin.fd_percent, twin.sampling_spread, twin.cpu_minutes, strict=True)
        ]


def read_twins(library: Library, checkpoint: str) -> Twins | None:
    """Read the family's twins over the images of `checkpoint`; None where there are no two that were measured."""
    family = [library.get(name) for name in family_names(library, checkpoint)]
    for base in filter(is_of_its_shape, family):
        same = [run for run in family if _autoencoder(run) is not None and _autoencoder(run) == _autoencoder(base)]
        groups: dict[tuple[str, str, str], list[Checkpoint]] = {}
        for run in sorted(same, key=lambda run: (run is not base, run.name)):
            if MEASURE in _measures(run) and (kind := _kind(run)):
                groups.setdefault(kind, []).append(run)
        measured = _measures(base)
        if len(groups) > 1:
            return Twins(
                latent_size(base).in_words,
                tuple(_twin(kind, runs) for kind, runs in groups.items()),
                measured.get("rfd_percent"),
                measured.get("fd_floor_percent"),
            )
    return None


def answer(twins: Twins | None) -> str:
    """What the target and the network change, as a sentence of Markdown that claims no more than the seeds allow."""
    if twins is None:
        return NO_TWINS
    if twins.spread is None:
        return "None of these was trained with a second seed, so no difference between them is claimed."
    first, *others = twins.twins
    said = [_compared(first, other, twins.spread) for other in others if other.way == first.way]
    return (
        f"Against **{first.label}**, trained for as long on the same latents ({twins.latent}): {'; '.join(said)}. "
        f"Seeds alone move feature FD by {twins.spread:.0%}."
    )


def _compared(first: Twin, other: Twin, spread: float) -> str:
    verdict = Difference(MEASURE, (first.label, other.label), (first.mean, other.mean), spread).verdict
    how = "no differently beyond luck" if verdict == "same" else f"**{verdict}**"
    return f"**{other.label}** generates {how} ({first.mean:.3g} → {other.mean:.3g} {MEASURES[MEASURE].unit})"


def _autoencoder(run: Checkpoint) -> object:
    """By which it is the same one; None where that was not kept."""
    return _section(_section(run.metrics, "training"), "autoencoder").get("sha256") if run.has_denoiser else None


def _measures(run: Checkpoint) -> dict[str, float]:
    return flat_measures(dict(_section(run.metrics, "evaluation")))


def _kind(run: Checkpoint) -> tuple[str, str, str] | None:
    """Network, schedule and target; None where its options do not say them."""
    schedule, prediction = run.config.get("schedule"), run.config.get("prediction")
    if schedule is None or prediction not in TARGETS:
        return None
    return "transformer" if run.model.is_transformer else "UNet", schedule, TARGETS[prediction]


def _twin(kind: tuple[str, str, str], runs: Sequence[Checkpoint]) -> Twin:
    measured = [_measures(run) for run in runs]
    generation = _section(_section(runs[0].metrics, "evaluation"), "generation")
    return Twin(
        *kind,
        names=tuple(run.name for run in runs),
        fd_percent=tuple(measures[MEASURE] for measures in measured),
        sampling_spread=tuple(measures.get(f"{MEASURE}_spread", 0.0) for measures in measured),
        cpu_minutes=tuple(_section(run.metrics, "training").get("cpu_minutes") for run in runs),
        way=(generation.get("sampler"), generation.get("evaluations")),
    )


def _section(stored: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of what is stored, whatever it is."""
    part = stored.get(name)
    return part if isinstance(part, Mapping) else {}
