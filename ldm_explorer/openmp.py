"""The threads that OpenMP keeps for each thread that computes; without GNU's OpenMP nothing is done here."""

from ldm_explorer.native import loaded_function

SOFT = 1
"""omp_pause_soft: they come back when they are needed (OpenMP 5.0, section 3.2.44)."""


def release_threads() -> None:
    """End the threads that OpenMP keeps for the calling thread: 60 microseconds, and they come back with the next use.

    Where there are more than processors, GNU's OpenMP lets all of them sleep at once when they have nothing to do, and
    small networks take twice as long: so only the thread whose turn it is should have any.
    """
    if pause := loaded_function("omp_pause_resource_all"):
        pause(SOFT)
