"""How glibc's malloc keeps memory that was freed, by mallopt(3); other systems' are left as they are."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Parameters, as malloc.h numbers them."""


def set_malloc(parameter: int, value: int) -> None:
    """Set one of the parameters for this process, where it runs on glibc."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(parameter, value)
