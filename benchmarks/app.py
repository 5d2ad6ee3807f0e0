"""What the app adds to sampling: 64 images in 25 steps over HTTP, against the bare loop with the same decodes.

Prints versions, threads, the measured matrix rate, the median seconds of each, and the median ratio over pairs run in
turn. `python benchmarks/app.py [CHECKPOINT_NAME]`
"""

import asyncio
import statistics
import sys
import time
from urllib.parse import urlencode

import gradio
import httpx
from conditions import conditions
from served import Session, question_of

from ldm_explorer.explore.library import open_library
from ldm_explorer.samplers import DEFAULT_SAMPLER
from ldm_explorer.shipped import shipped_checkpoints
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import LIMITS

IMAGES, STEPS, REPEATS = 64, 25, 5


def bare_loop(pipeline) -> None:
    labels = [8] * IMAGES
    for step in pipeline.denoise(labels, range(IMAGES), num_inference_steps=STEPS):
        pipeline.codec.decode(step.z_t)
        pipeline.codec.decode(step.z0)


def over_http(address: str, name: str, seed: int) -> None:
    """As the page asks; each time from another seed, for what was asked before is kept."""
    chosen = {"checkpoint": name, "class_name": "Bag", "seed": seed, "images": IMAGES}
    question = urlencode(chosen | {"sampler": DEFAULT_SAMPLER, "steps": STEPS})

    async def ask() -> tuple[str, object]:
        async with httpx.AsyncClient(base_url=address, timeout=None) as client:
            return await Session(client, f"seed {seed}").ask(question_of("denoising"), [question])

    outcome, answer = asyncio.run(ask())
    assert outcome == "complete", answer


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main(name: str = "ldm-8x8x4-cosine") -> None:
    library = open_library(shipped_checkpoints())
    pipeline = library.get(name).pipeline
    page = build_page(library)
    address = launch(page.app, LIMITS["off"], quiet=True, **page.options)
    print(f"{conditions()}, gradio {gradio.__version__}")
    bare_loop(pipeline)
    over_http(address, name, 0)
    pairs = [(seconds(over_http, address, name, n), seconds(bare_loop, pipeline)) for n in range(1, REPEATS + 1)]
    ratios = [app_seconds / bare_seconds for app_seconds, bare_seconds in pairs]
    print(f"app {statistics.median(p[0] for p in pairs):.2f} s, bare {statistics.median(p[1] for p in pairs):.2f} s")
    print(f"ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f}, {REPEATS} pairs)")
    page.app.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
