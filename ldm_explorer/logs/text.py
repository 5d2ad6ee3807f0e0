"""Logs that are text: CSV, JSON, lines of JSON, and whatever a terminal showed with "loss: 0.34" in it."""

import re
from collections.abc import Iterator
from typing import Any

from ldm_explorer.files import CheckpointError
from ldm_explorer.logs.collector import Collector
from ldm_explorer.logs.numbers import as_number, parsed
from ldm_explorer.logs.series import Log
from ldm_explorer.logs.tables import LOSS, read_any_table, read_table

MAX_JSON_CHARACTERS = 8_000_000
"""Of one JSON value: it is held in memory as a whole."""

WRAPPERS = ("log_history", "history", "data", "records", "rows")
"""Where JSON files keep their records: the first is Hugging Face's trainer_state.json."""

NUMBER = r"[-+]?(?:\d{1,30}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,4})?"
COMMA_NUMBER = r"[-+]?\d{1,30},\d{1,40}(?:[eE][-+]?\d{1,4})?(?![.,]?\d)"
"""As much of the world writes it; not what is followed by more, as in a list."""
_SAID = re.compile(
    r"(?:loss|mse)([\w./-]{0,24}?)['\"]?"
    r"(?:[ \t]{1,3}(?:is|was|of|at|around|about|near|stuck|stopped|stays|still|value|plateaus|plateaued)\b){0,4}"
    rf"[ \t]{{0,4}}[:=~≈]?[ \t=]{{0,4}}({COMMA_NUMBER}|{NUMBER}|nan|[-+]?inf)(?![\w]|\.\d)",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"(?:\b(train|training|val|valid|validation|eval|test|avg|average|mean)[ \t]+)?[\w./-]*$", re.IGNORECASE
)
_STEP = re.compile(
    r"\b(?:global[_ ])?(?:step|iter|iteration)s?['\"]?[ \t]{0,3}[:=#]?[ \t]{0,3}(\d{1,12})\b", re.IGNORECASE
)
_BAR = re.compile(r"\b(\d{1,12})/(\d{1,12})[ \t]{0,2}\[")
_EPOCH = re.compile(r"\bepoch['\"]?[ \t]{0,3}[:=#]?[ \t]{0,3}\[?(\d{1,9})\b", re.IGNORECASE)
_BEFORE_CHARACTERS = 48
_LINE_CHARACTERS = 20_000


def decoded(content: bytes, source: str) -> str:
    """Text of UTF-8, or of UTF-16 as Windows' shell writes it. Raises `CheckpointError` for what is no text."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content[:4096]:
        raise CheckpointError(
            f"{source} is no text: give a CSV, JSON or text file, or a TensorBoard file under its own name "
            "(events.out.tfevents...)"
        )
    return content.decode("utf-8-sig", errors="replace")


def read_text(text: str, name: str) -> Log:
    """A log that is text, of whichever kind it looks like. Raises `CheckpointError` where no number can be found."""
    stripped = text.lstrip("\ufeff").strip()
    if not stripped:
        raise CheckpointError(f"{name} is empty: give a log with a loss in it")
    for kind, read in (
        ("JSON", _read_json),
        ("JSON lines", _read_json_lines),
        ("CSV", read_table),
        ("text", _read_said),
        ("CSV", read_any_table),
    ):
        collector = Collector(name)
        if read(stripped, collector):
            return collector.log(name, kind)
    raise CheckpointError(f'{name} has no loss that can be read: give CSV, JSON, or lines with "loss: 0.34" in them')


def _read_json(text: str, collector: Collector) -> bool:
    if text[0] not in "[{":
        return False
    if len(text) > MAX_JSON_CHARACTERS:
        if "\n" in text[:_LINE_CHARACTERS] and parsed(text.partition("\n")[0]) is not None:
            return False  # lines of JSON
        raise CheckpointError(
            f"{collector.source} has {len(text) / 1e6:.1f} million characters of JSON, "
            f"{MAX_JSON_CHARACTERS / 1e6:g} are read at most: write a record per line"
        )
    value = parsed(text)
    for wrapper in WRAPPERS:
        if isinstance(value, dict) and isinstance(value.get(wrapper), list | dict):
            value = value[wrapper]
    for record in _records(value):
        collector.add_record(record)
    return bool(collector.points)


def _records(value: Any) -> Iterator[dict[str, float]]:
    """Records of a JSON value: a list of them, lists by name, pairs of step and value, or plain numbers."""
    if isinstance(value, dict):
        columns = {name: column for name, column in value.items() if isinstance(column, list | dict)}
        if not columns:
            yield _numbers(value)
            return
        for name, column in columns.items():  # pandas writes a column as numbers by their index
            columns[name] = list(column.values()) if isinstance(column, dict) else column
        for row in range(max(map(len, columns.values()))):
            yield _numbers({name: column[row] for name, column in columns.items() if row < len(column)})
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield _numbers(item)
            elif isinstance(item, list) and len(item) in (2, 3):  # TensorBoard's export: wall time, step, value
                yield _numbers({"step": item[-2], LOSS: item[-1]})
            else:
                yield _numbers({LOSS: item})


def _numbers(record: dict[Any, Any]) -> dict[str, float]:
    """The numbers of a record, those one level down named with a stroke."""
    flat = dict(record)
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{below}": deeper for below, deeper in value.items()}
    found = {str(name): as_number(value) for name, value in flat.items()}
    return {name: value for name, value in found.items() if value is not None}


def _read_json_lines(text: str, collector: Collector) -> bool:
    """Lines that are no records are passed over, as others may write between them."""
    if text[0] != "{":
        return False
    for line in text.splitlines():
        if line.startswith("{") and isinstance(record := parsed(line), dict):
            collector.add_record(_numbers(record))
        collector.check_time()
    return bool(collector.points)


def _read_said(text: str, collector: Collector) -> bool:
    """Every loss in lines that were made for people; a step where the line has one."""
    last: dict[str, tuple[float | None, float]] = {}
    for line in text.splitlines():
        line = line[-_LINE_CHARACTERS:]
        step = _step_said(line)
        for said in _SAID.finditer(line):
            before = _BEFORE.search(line[max(0, said.start() - _BEFORE_CHARACTERS) : said.start()])
            name = f"{before[0] if before else ''}{line[said.start() : said.end(1)]}".lower()
            value = float(said[2].replace(",", "."))
            if step is None or last.get(name) != (step, value):  # a progress bar is drawn several times
                collector.add(name, step, value)
            last[name] = step, value
        collector.check_time()
    return bool(collector.points)


def _step_said(line: str) -> float | None:
    """The step of a line, or its epoch with the share of it that a progress bar shows."""
    if found := _STEP.search(line):
        return float(found[1])
    epoch, bar = _EPOCH.search(line), _BAR.search(line)
    if epoch:
        return float(epoch[1]) + (min(1.0, int(bar[1]) / max(1, int(bar[2]))) if bar else 0.0)
    return float(bar[1]) if bar else None
