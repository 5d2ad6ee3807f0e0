"""How glibc's malloc keeps memory that was freed, by mallopt(3) and malloc_trim(3); elsewhere nothing is done."""

import sys
import time

from ldm_explorer.native import loaded_function

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Parameters, as malloc.h numbers them."""
RETURN_SECONDS = 2.0
_returned = 0.0


def set_malloc(parameter: int, value: int) -> None:
    """Set one of the parameters for this process, where it runs on glibc."""
    if sys.platform == "linux" and (mallopt := loaded_function("mallopt")):
        mallopt(parameter, value)


def return_freed_memory() -> None:
    """Give the system back what was freed in the middle of the heap, at most every 2 s: it may take 15 ms."""
    global _returned
    trim = loaded_function("malloc_trim") if sys.platform == "linux" else None
    if trim and time.monotonic() > _returned + RETURN_SECONDS:
        _returned = time.monotonic()
        trim(0)
