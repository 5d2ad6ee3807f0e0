"""Logs that are tables: CSV with commas, semicolons or tabs."""

import csv
import re
from collections import Counter
from collections.abc import Iterable

from ldm_explorer.logs.collector import STEPS, Collector
from ldm_explorer.logs.numbers import as_number

LOSS = "loss"
MAX_NAME = 200
_FIRST_CHARACTERS = 20_000


def read_table(text: str, collector: Collector) -> bool:
    """A table with a loss in its head, or bare numbers: the loss, or a step and the loss."""
    lines, delimiter = _lines(text)
    try:
        rows = csv.reader(lines, delimiter=delimiter)
        head = [cell.strip() for cell in next(rows, [])]
        bare = bool(head) and all(_cell(cell) is not None for cell in head)
        if bare and len(head) <= 2:
            names, body = ["step", LOSS][-len(head) :], csv.reader(lines, delimiter=delimiter)
        else:
            names, body = _head(head), rows
        return _add_rows(names, body, collector) if names else False
    except csv.Error:
        return False


def read_any_table(text: str, collector: Collector) -> bool:
    """A table whose head does not say which column is the loss, above a row of numbers."""
    lines, delimiter = _lines(text)
    try:
        rows = csv.reader(lines, delimiter=delimiter)
        head = [cell.strip() for cell in next(rows, [])]
        named = all(0 < len(name) < MAX_NAME and _cell(name) is None for name in head)
        first = next(csv.reader(lines[1:2], delimiter=delimiter), [])
        filled = [_cell(cell) for cell in first if cell.strip()]
        is_table = named and len(head) == len(first) and filled and None not in filled
        return _add_rows(_unique(head), rows, collector) if is_table else False
    except csv.Error:
        return False


def _lines(text: str) -> tuple[list[str], str]:
    """Lines that are no comments, and what parts their cells."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0][:_FIRST_CHARACTERS] if lines else ""
    return lines, max(",;\t", key=first.count)


def _head(head: list[str]) -> list[str]:
    """The names of columns; TensorBoard's own export has the loss as "Value". [] for what is no head."""
    names = [LOSS if name.lower() == "value" else name for name in head]
    said = [name for name in names if "loss" in name.lower() or "mse" in name.lower()]
    is_head = said and all(len(name) < MAX_NAME and not re.search(r"[:=]\s*\d", name) for name in names)
    return _unique(names) if is_head else []


def _unique(names: list[str]) -> list[str]:
    """A number behind each further one of a name: two columns are two fields."""
    counts: Counter[str] = Counter()
    for place, name in enumerate(names):
        counts[name] += 1
        if name and counts[name] > 1:
            names[place] = f"{name} ({counts[name]})"
    return names


def _add_rows(names: list[str], rows: Iterable[list[str]], collector: Collector) -> bool:
    for row in rows:
        cells = zip(names, row, strict=False)
        found = {name: value for name, cell in cells if name and (value := _cell(cell)) is not None}
        if found.keys() - {name for name in found if name.lower() in STEPS}:
            collector.add_record(found)
        collector.check_time()
    return bool(collector.points)


def _cell(text: str) -> float | None:
    """A comma that does not part cells, as it is in quotes or others do that, is a decimal one."""
    return as_number(text.strip().replace(",", "."))
