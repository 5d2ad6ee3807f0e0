"""What the app adds to sampling: 64 images in 25 steps over HTTP, against the bare loop with the same decodes.

Prints versions, threads, the measured matrix rate, the median seconds of each, and the median ratio over pairs run in
turn. `python benchmarks/app.py [CHECKPOINT_NAME]`
"""

import statistics
import sys
import time

import gradio
from conditions import conditions
from gradio_client import Client

from ldm_explorer.explore.library import open_library
from ldm_explorer.samplers import DEFAULT_SAMPLER
from ldm_explorer.shipped import shipped_checkpoints
from ldm_explorer.ui import build_app
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import LIMITS

IMAGES, STEPS, REPEATS = 64, 25, 5


def bare_loop(pipeline) -> None:
    labels = [index % 10 for index in range(IMAGES)]
    for step in pipeline.denoise(labels, range(IMAGES), num_inference_steps=STEPS):
        pipeline.codec.decode(step.z_t)
        pipeline.codec.decode(step.z0)


def over_http(client: Client, name: str) -> None:
    job = client.submit(name, 0, "one of each class", DEFAULT_SAMPLER, STEPS, 1, IMAGES, api_name="/denoise")
    job.result()
    assert len(job.outputs()) == STEPS


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main(name: str = "ldm-8x8x4-cosine") -> None:
    library = open_library(shipped_checkpoints())
    pipeline = library.get(name).pipeline
    app = build_app(library)
    address = launch(app, LIMITS["off"], quiet=True)
    client = Client(address, verbose=False)
    print(f"{conditions()}, gradio {gradio.__version__}")
    bare_loop(pipeline)
    over_http(client, name)
    pairs = [(seconds(over_http, client, name), seconds(bare_loop, pipeline)) for _ in range(REPEATS)]
    ratios = [app_seconds / bare_seconds for app_seconds, bare_seconds in pairs]
    print(f"app {statistics.median(p[0] for p in pairs):.2f} s, bare {statistics.median(p[1] for p in pairs):.2f} s")
    print(f"ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f}, {REPEATS} pairs)")
    app.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
