"""Twins: denoisers on the same latents that differ in network, schedule and target alone, and in their seed."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_answer import Difference
from ldm_explorer.explore.size_measures import SizeMeasures, family_names, read_measures
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
    way: tuple[str | None, int]  # the sampler and its evaluations
    gflops_per_image: float | None  # generated that way
    parameters: int | None

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
        measured = [MEASURE, f"{MEASURE}_spread", "cpu_minutes", "gflops_per_image"]
        writer.writerow(["checkpoint", "network", "schedule", "target", *measured])
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
            (
                name,
                twin.network,
                twin.schedule,
                twin.target,
                *measured,
                twin.gflops_per_image and round(twin.gflops_per_image, 4),
            )
            for twin in self.twins
            for name, *measured in zip(twin.names, twin.fd_percent, twin.sampling_spread, twin.cpu_minutes, strict=True)
        ]


def read_twins(library: Library, checkpoint: str) -> Twins | None:
    """Read the family's twins over the images of `checkpoint`; None where there are no two that were measured."""
    names = family_names(library, checkpoint)
    family = read_measures(library, names) if names else ()
    for base in (item for item in family if item.of_its_shape):
        autoencoder = _autoencoder(library.get(base.name))
        groups: dict[tuple[str, str, str], list[SizeMeasures]] = {}
        for item in sorted(family, key=lambda item: (item is not base, item.name)):
            run = library.get(item.name)
            is_twin = autoencoder is not None and autoencoder == _autoencoder(run) and MEASURE in item.measures
            if is_twin and (kind := _kind(run)):
                groups.setdefault(kind, []).append(item)
        if len(groups) > 1:
            return Twins(
                base.size.in_words,
                tuple(_twin(library, kind, items) for kind, items in groups.items()),
                base.get("rfd_percent"),
                base.get("fd_floor_percent"),
            )
    return None


def answer(twins: Twins | None) -> str:
    """What the target and the network change, as a sentence of Markdown that claims no more than the seeds allow."""
    if twins is None:
        return NO_TWINS
    if twins.spread is None:
        return "None of these was trained with a second seed, so no difference between them is claimed."
    first, *rest = twins.twins
    others = [other for other in rest if other.way == first.way]
    said = [_compared(first, other, twins.spread) for other in others]
    return (
        f"Against **{first.label}**, trained with as much CPU time on the same latents ({twins.latent}): "
        f"{'; '.join(said)}. Seeds alone, of training and of sampling, move feature FD by {twins.spread:.0%}, measured "
        f"on {', '.join(twin.label for twin in twins.twins if twin.spread is not None)}; all share one autoencoder, "
        f"and the others were trained with one seed.{_costs([first, *others])}"
    )


def _costs(twins: Sequence[Twin]) -> str:
    """What an image costs by each network, where there are several and this is known."""
    of_networks = {twin.network: twin for twin in reversed(twins)}
    said = [
        f"{twin.gflops_per_image:.3g} GFLOP with the {network} of {twin.parameters / 1e6:.2g} M parameters"
        for network, twin in reversed(of_networks.items())
        if twin.gflops_per_image and twin.parameters
    ]
    return f" An image costs {' and '.join(said)}." if len(said) > 1 else ""


def _compared(first: Twin, other: Twin, spread: float) -> str:
    verdict = Difference(MEASURE, (first.label, other.label), (first.mean, other.mean), spread).verdict
    how = "no differently beyond luck" if verdict == "same" else f"**{verdict}**"
    return f"**{other.label}** generates {how} ({first.mean:.3g} → {other.mean:.3g} {MEASURES[MEASURE].unit})"


def _autoencoder(run: Checkpoint) -> object:
    """By which it is the same one; None where that was not kept."""
    return _section(_section(run.metrics, "training"), "autoencoder").get("sha256") if run.has_denoiser else None


def _kind(run: Checkpoint) -> tuple[str, str, str] | None:
    """Network, schedule and target; None where its options do not say them."""
    schedule, prediction = run.config.get("schedule"), run.config.get("prediction")
    if schedule is None or prediction not in TARGETS:
        return None
    return "transformer" if run.model.is_transformer else "UNet", schedule, TARGETS[prediction]


def _twin(library: Library, kind: tuple[str, str, str], items: Sequence[SizeMeasures]) -> Twin:
    training = [_section(library.get(item.name).metrics, "training") for item in items]
    return Twin(
        *kind,
        names=tuple(item.name for item in items),
        fd_percent=tuple(item.measures[MEASURE] for item in items),
        sampling_spread=tuple(item.measures.get(f"{MEASURE}_spread", 0.0) for item in items),
        cpu_minutes=tuple(stored.get("cpu_minutes") for stored in training),
        way=(items[0].sampler, items[0].evaluations),
        gflops_per_image=items[0].get("gflops_per_image"),
        parameters=parameters if isinstance(parameters := training[0].get("parameters"), int) else None,
    )


def _section(stored: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of what is stored, whatever it is."""
    part = stored.get(name)
    return part if isinstance(part, Mapping) else {}
