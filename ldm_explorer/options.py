"""Options and arguments given from Python: each has the type that it is declared with, or is refused in a sentence."""

import operator
import os
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ldm_explorer.files import shown


def settle_types(config: Any) -> None:
    """Give every field of a frozen config dataclass its declared type: text becomes a path or a number, as on a
    command line, and a list a tuple.

    Raises `ValueError` that names the option, what came and what was expected.
    """
    for name, kind in _kinds(config.__class__).items():
        value = getattr(config, name)
        try:
            settled = kind.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            expected = "it should be a path" if first["type"] == "path_type" else first["msg"].replace("Input", "it")
            raise ValueError(f"--{name.replace('_', '-')} is {shown(value)}: {expected}") from error
        if settled != settled:
            raise ValueError(f"--{name.replace('_', '-')} is {value}: it should be a number")
        object.__setattr__(config, name, settled)


@cache
def _kinds(config_class: type) -> dict[str, TypeAdapter]:
    hints = get_type_hints(config_class)
    return {field.name: TypeAdapter(hints[field.name]) for field in fields(config_class)}


def as_path(given: object, what: str) -> Path:
    """A path given as one or as text. Raises `TypeError` for anything else, with `what` it should have been."""
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{shown(given)} is no path: give {what}")
    return Path(given)


def check_kind(given: object, wanted: type, what: str) -> None:
    """Raise `TypeError` for an argument that is no instance of a class, with `what` it should have been."""
    if not isinstance(given, wanted):
        raise TypeError(f"{shown(given)} is no {wanted.__name__}: give {what}")


def whole_numbers(given: Iterable[int], name: str) -> list[int]:
    """Plain ints of Python's, NumPy's or a tensor. Raises `ValueError` for anything else, or more than 63 bits."""
    try:
        numbers = [operator.index(number) for number in given]
    except TypeError as error:
        raise ValueError(f"{name} {shown(given)}: give a list of whole numbers") from error
    if any(abs(number) >= 2**63 for number in numbers):
        raise ValueError(f"{name} {shown(given)}: give whole numbers of at most 63 bits")
    return numbers
