"""What a timing depends on besides the code, for the head of a benchmark's output."""

import platform
import time

import diffusers
import torch


def conditions() -> str:
    """Versions, threads, and the matrix rates of this machine."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, diffusers {diffusers.__version__}"
    rates = ", ".join(f"{dtype}: {_matrix_rate_gflops(dtype):.0f} GFLOP/s" for dtype in (torch.float32, torch.bfloat16))
    return f"{versions}, {torch.get_num_threads()} threads, matrix rates {rates}"


def _matrix_rate_gflops(dtype: torch.dtype, size: int = 2048) -> float:
    matrix = torch.randn(size, size).to(dtype)
    for _ in range(2):
        matrix @ matrix
    start = time.perf_counter()
    for _ in range(5):
        matrix @ matrix
    return 5 * 2 * size**3 / (time.perf_counter() - start) / 1e9
