"""Stored measures of checkpoints as Markdown tables, under the names that the registry gives them."""

from collections.abc import Callable
from typing import Any

from ldm_explorer.evaluation.measures import MEASURES, Measure, Section

Stored = dict[str, Any]
Column = Callable[[Stored], Any]
WHERE: dict[Section, tuple[str, ...]] = {"real": ("generation", "reconstruction"), "loss": ("loss", "floors")}
"""The sections of metrics.json that may hold a measure, where not that of its own name."""


def _value(measure: Measure) -> Column:
    def stored(evaluation: Stored) -> Any:
        sections = evaluation | {"floors": (evaluation.get("loss") or {}).get("floors", {})}
        places = [sections.get(name, {}) for name in WHERE.get(measure.section, (measure.section,))]
        return next((place[measure.name] for place in places if measure.name in place), None)

    return stored


def _columns(*names: str) -> dict[str, Column]:
    return {MEASURES[name].heading: _value(MEASURES[name]) for name in names}


def _section(*sections: Section) -> dict[str, Column]:
    """A column for each measure of these sections, followed by FURTHER ones."""
    columns: dict[str, Column] = {}
    for measure in MEASURES.values():
        if measure.section in sections and measure.in_tables:
            columns |= _columns(measure.name) | FURTHER.get(measure.name, {})
    return columns


def _or_lossless(evaluation: Stored) -> Any:
    return evaluation["reconstruction"]["pca_psnr_db"] or "lossless"


def _of_real(evaluation: Stored) -> str:
    names = ("precision", "recall", "density", "coverage")
    return " ".join(_text(evaluation["generation"][f"{name}_of_real"]) for name in names)


FURTHER: dict[str, dict[str, Column]] = {
    "pca_psnr_db": {MEASURES["pca_psnr_db"].heading: _or_lossless},
    "rfd_percent": _columns("fd_floor_percent"),
    "ifd_random_percent": _columns("rfd_percent"),
    "fd_percent_spread": {
        "sampler": lambda evaluation: evaluation["generation"]["sampler"],
        "evaluations": lambda evaluation: evaluation["generation"]["evaluations"],
    },
    "coverage": {"of real": _of_real},
}
"""What follows a measure's column in its table."""


def _kinds() -> tuple[dict[str, Column], ...]:
    return (
        _section("reconstruction", "latent_space") | _columns("encode_gflops", "decode_gflops"),
        _section("continuity"),
        _section("generation", "real") | _columns("evaluation_gflops"),
        _section("loss"),
    )


def tables(results: dict[str, Stored]) -> list[str]:
    """One Markdown table per kind of measures, with a row for each checkpoint that has some."""
    return [
        table
        for columns in (*_kinds(), _few_evaluations(results), _of_students())
        if (table := _table(results, columns))
    ]


def _few_evaluations(results: dict[str, Stored]) -> dict[str, Column]:
    """FD by sampler and evaluations, one column per number of evaluations; empty when nobody measured it."""
    measured = [stored for stored in results.values() if "evaluations" in stored and not _is_of_student(stored)]

    def of_each_sampler(place: int) -> Column:
        def said(stored: Stored) -> str | None:
            if _is_of_student(stored):
                return None
            return " ".join(f"{name} {_text(curve[place])}" for name, curve in stored["fd_percent"].items())

        return said

    return {
        f"{MEASURES['fd_percent'].heading} with {count}": of_each_sampler(place)
        for stored in measured[:1]
        for place, count in enumerate(stored["evaluations"])
    }


def _of_students() -> dict[str, Column]:
    """FD with the evaluations that a student was distilled to."""

    def fd_percent(stored: Stored) -> float | None:
        return next(iter(stored["fd_percent"].values()))[0] if _is_of_student(stored) else None

    return {
        MEASURES["fd_percent"].heading: fd_percent,
        "sampler": lambda stored: next(iter(stored["fd_percent"])),
        "evaluations": lambda stored: stored["evaluations"][0],
    }


def _is_of_student(stored: Stored) -> bool:
    """Whether a curve of few evaluations is one point. Raises `KeyError` for what is no curve."""
    return len(stored["evaluations"]) == 1


def _table(results: dict[str, Stored], columns: dict[str, Column]) -> str:
    """With the rows that have a measure in the first column, and the columns that have one in some row."""
    rows = {name: [_cell(column, stored) for column in columns.values()] for name, stored in results.items()}
    rows = {name: cells for name, cells in rows.items() if cells and cells[0] != "-"}
    if not rows:
        return ""
    known = [index for index in range(len(columns)) if any(cells[index] != "-" for cells in rows.values())]
    titles = [title for index, title in enumerate(columns) if index in known]
    lines = [["checkpoint", *titles], ["---"] * (len(titles) + 1)]
    lines += [[name, *(cells[index] for index in known)] for name, cells in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(column: Column, stored: Stored) -> str:
    """A measure that a checkpoint does not have is a dash."""
    try:
        value = column(stored)
    except KeyError:
        value = None
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
