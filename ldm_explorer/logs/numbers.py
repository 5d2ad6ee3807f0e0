"""Numbers in what others wrote: of JSON, and of text."""

import math
from typing import Any

from pydantic import TypeAdapter

_ANY = TypeAdapter(Any)


def as_number(value: Any) -> float | None:
    """A number, or text that is one; None for anything else."""
    if isinstance(value, str):
        try:
            return float(value) if 0 < len(value.strip()) <= 40 and "_" not in value else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def parsed(text: str) -> Any:
    """A JSON value, None for what is none."""
    try:
        return _ANY.validate_json(text)
    except ValueError:
        return None
