"""Functions of the libraries that this process has loaded already, where they are there."""

import ctypes
from functools import cache
from typing import Any


@cache
def loaded_function(name: str) -> Any:
    """A C function by its name, None where no library has it."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # TypeError: Windows takes no None
        return None
