"""The stored measures of latents of different sizes, whatever part of them was measured, and as tables."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.evaluation.cost import Cost, measure_cost
from ldm_explorer.evaluation.measures import MEASURES, derive
from ldm_explorer.evaluation.reference import flat_measures
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import LatentSize, latent_size
from ldm_explorer.files import MAX_SHOWN, CheckpointError, read_json
from ldm_explorer.run_files import is_number

FAMILY, SEEDS_FILE = "sizes", "seeds.json"
"""The folder of the runs that differ in their latents alone: size-<shape>, one for each shape, and variants of them;
and the measures of trainings that differ in their seed alone, which tools/seeds.py writes there."""


@dataclass(frozen=True, eq=False)
class SizeMeasures:
    """What is stored of one checkpoint, by the names in MEASURES; what was not measured is not there."""

    name: str
    size: LatentSize
    in_family: bool
    of_its_shape: bool  # the family's one of this shape, not a variant of it
    kl_weight: float | None
    evaluations: int  # of the network per generated image, for FD and cost alike
    sampler: str | None  # that FD was measured with
    measures: dict[str, float]  # by the names of train/evaluate.py, MEASURES among them

    def get(self, measure: str) -> float | None:
        return self.measures.get(measure)

    @property
    def label(self) -> str:
        """The shape where it stands for it, else the name."""
        return self.size.shape if self.of_its_shape else self.name


def read_measures(library: Library, names: Sequence[str]) -> tuple[SizeMeasures, ...]:
    """Read what these checkpoints store. Raises `ValueError` for a name that is not there, or none."""
    if not names:
        raise ValueError("choose at least one checkpoint to compare")
    return tuple(_read(library.get(name)) for name in dict.fromkeys(names))


def _read(checkpoint: Checkpoint) -> SizeMeasures:
    size, stored = latent_size(checkpoint), checkpoint.metrics.get("evaluation")
    measures = flat_measures(stored if isinstance(stored, dict) else {})
    evaluations = int(measures.get("evaluations", checkpoint.sampling.num_inference_steps))
    if (gflops := _cost(checkpoint, measures).per_sample(evaluations)) is not None:
        measures["gflops_per_image"] = gflops
    measures |= derive(measures)
    return SizeMeasures(
        name=checkpoint.name,
        size=size,
        in_family=_in_family(checkpoint),
        of_its_shape=_is_of_its_shape(checkpoint),
        kl_weight=checkpoint.config.get("kl_weight"),
        evaluations=evaluations,
        sampler=_sampler(stored),
        measures=measures,
    )


def _cost(checkpoint: Checkpoint, measures: dict[str, float]) -> Cost:
    """As it is stored, else counted now."""
    if not measures.keys() >= {"encode_gflops", "decode_gflops"}:
        return measure_cost(checkpoint)
    return Cost(measures["encode_gflops"], measures["decode_gflops"], measures.get("evaluation_gflops"))


def _in_family(checkpoint: Checkpoint) -> bool:
    return checkpoint.folder.parent.name == FAMILY


def _is_of_its_shape(checkpoint: Checkpoint) -> bool:
    return _in_family(checkpoint) and checkpoint.folder.name == f"size-{latent_size(checkpoint).shape}"


def _sampler(evaluation: object) -> str | None:
    generation = evaluation.get("generation") if isinstance(evaluation, dict) else None
    sampler = generation.get("sampler") if isinstance(generation, dict) else None
    return sampler[:MAX_SHOWN] if isinstance(sampler, str) else None


def family_names(library: Library, checkpoint: str) -> list[str]:
    """The family's checkpoints over the same images as `checkpoint`; of two families its own, else the first."""
    names = [name for name in library.beside(checkpoint) if _in_family(library.get(name))]
    folders = {name: library.get(name).folder.parent for name in names}
    return [name for name in names if folders[name] == folders.get(checkpoint, folders[names[0]])]


def default_names(library: Library, checkpoint: str) -> list[str]:
    """One checkpoint per shape: of the family, else the denoisers, else all over the same images as `checkpoint`; and
    that one, where it was opened."""
    family = [name for name in family_names(library, checkpoint) if _is_of_its_shape(library.get(name))]
    if len(family) > 1:
        return family + [library.get(checkpoint).name] * (not library.is_listed(checkpoint))
    sizes: dict[LatentSize, str] = {}
    comparable = library.beside(checkpoint)
    for name in comparable:
        if library.get(name).has_denoiser:
            sizes.setdefault(latent_size(library.get(name)), name)
    return list(sizes.values()) if len(sizes) > 1 else comparable


def comparable_names(library: Library, checkpoint: str, names: Sequence[str]) -> list[str]:
    """Those over the same images as `checkpoint`, by side, then channels; the default ones where there are only others.

    So it stands just after a checkpoint over other images was chosen.
    """
    same = library.beside(checkpoint)
    chosen = [name for name in names if name in same]
    if names and not chosen:
        chosen = default_names(library, checkpoint)

    def order(name: str) -> tuple[int, int]:
        size = latent_size(library.get(name))
        return size.side, size.channels

    return sorted(chosen, key=order)


def kl_row(sizes: Sequence[SizeMeasures]) -> tuple[SizeMeasures, ...]:
    """The family's autoencoders of one shape and several KL weights, by weight; () where there are not two.

    A denoiser's run does not store the weight of its autoencoder: it is that of the other shapes, as nothing else than
    the shape is varied among these.
    """
    family = [item for item in sizes if item.in_family]
    shapes = {item.size.shape for item in family if item.kl_weight is not None and not item.of_its_shape}
    common = next((item.kl_weight for item in family if item.of_its_shape and item.kl_weight is not None), None)
    by_weight: dict[float, SizeMeasures] = {}
    for item in family:
        weight = common if item.of_its_shape and item.kl_weight is None else item.kl_weight
        if item.size.shape in shapes and weight is not None:
            by_weight.setdefault(weight, item)
    rows = tuple(replace(by_weight[weight], kl_weight=weight) for weight in sorted(by_weight))
    return rows if len(rows) > 1 else ()


def read_training_spread(folder: Path) -> dict[str, float]:
    """Read for every measure in seeds.json: largest minus smallest of training seeds alone, over their mean;
    of decibels, which are relative already, not over their mean. `spread_around` gives it for a measure.

    The larger one where seeds were trained at several sizes. {} where there is no such file, or none that can be read.
    """
    try:
        content = read_json(folder / SEEDS_FILE)
    except CheckpointError:
        return {}
    spread: dict[str, float] = {}
    for of_seeds in content.values():
        stored = of_seeds.items() if isinstance(of_seeds, dict) else ()
        known = {name: values for name, values in stored if name in MEASURES and _are_numbers(values)}
        known |= _derived_of_seeds(known)
        for measure, values in known.items():
            if unit := spread_around(measure, sum(values) / len(values), 1):
                spread[measure] = max(spread.get(measure, 0), (max(values) - min(values)) / unit)
    return spread


def _derived_of_seeds(known: dict[str, list[float]]) -> dict[str, list[float]]:
    """The derived measures, a value for each seed, of those that were stored for as many seeds as one another."""
    derived: dict[str, list[float]] = {}
    for count in {len(values) for values in known.values()}:
        stored = {name: values for name, values in known.items() if len(values) == count}
        rows = [derive(dict(zip(stored, row, strict=True))) for row in zip(*stored.values(), strict=True)]
        derived |= {name: [row[name] for row in rows] for name in rows[0]}
    return derived


def spread_around(measure: str, value: float, spread: float) -> float:
    """How far training seeds alone move a measure of this size, in its own unit, by the spread of its measure."""
    return spread * (1 if MEASURES[measure].unit == "dB" else abs(value))


def _are_numbers(values: object) -> bool:
    """Whether it is a list of two finite numbers or more."""
    return isinstance(values, list) and len(values) > 1 and all(map(is_number, values))


def family_spread(library: Library, checkpoint: str) -> dict[str, float]:
    """The spread of training seeds, stored beside the family: see `read_training_spread`."""
    names = family_names(library, checkpoint)
    return read_training_spread(library.get(names[0]).folder.parent) if names else {}


def csv_table(sizes: Sequence[SizeMeasures], measures: Sequence[str]) -> str:
    """A line per checkpoint; an empty cell for what was not measured. Units are in the names."""
    columns = {
        "checkpoint": [item.name for item in sizes],
        "side": [item.size.side for item in sizes],
        "channels": [item.size.channels for item in sizes],
        "values": [item.size.values for item in sizes],
        "kl_weight": [item.kl_weight for item in sizes],
        "sampler": [item.sampler for item in sizes],
        "evaluations": [item.evaluations for item in sizes],
    }
    columns |= {measure: [item.get(measure) for item in sizes] for measure in measures if measure not in columns}
    return write_csv(list(columns), list(zip(*columns.values(), strict=True)))


def write_csv(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Comma-separated lines; None is an empty cell, and no name is a formula where a spreadsheet opens them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_no_formula(cell) for cell in row] for row in [head, *rows])
    return text.getvalue()


def _no_formula(cell):
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
