"""What the page costs and how long it takes, in a real browser: `python benchmarks/page.py`, on a quiet machine.

Prints the start, the weight, the memory, the requests of one action, the time to a picture beside the bare loop with
the same decodes, scrubbing, and a light action's time while another client runs the longest allowed job.
"""

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from runpy import run_path

import httpx
from conditions import conditions
from load import percentile
from playwright.sync_api import Page, sync_playwright
from served import REPO, Served, served

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.ui.rooms import ROOMS

launch_chromium = run_path(str(REPO / "tools" / "screenshots.py"))["launch_chromium"]
CHECKPOINT, OTHER = "ldm-8x8x4-cosine", "ldm-8x8x4-linear"
REPEATS, STEPS, TEN = 20, 10, range(1, 11)
LONGEST = {"steps": "7", "images": "64"}
"""About what one request may cost."""
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
IMPORTS = """
import time, torch, gradio, diffusers, plotly.graph_objects
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler, UNet2DModel
from diffusers import UniPCMultistepScheduler
print(time.process_time())
"""
ANSWERED = "() => window.ldm?.stages?.()[0]?.ldm?.done()"
BEGIN = """(values) => {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(values)) query.set(name, value);
    ldm.follow(`?${query}`);
}"""
CHOOSE = f"""(values) => new Promise((resolve) => {{
    const start = performance.now(), wanted = Object.entries(values);
    let there = false;
    ldm.listen((what) => {{
        if (there || what !== "frame") return;
        there = wanted.every(([name, value]) => ldm.state.values[name] == value) && ldm.stages()[0].ldm.done();
        if (there) resolve((performance.now() - start) / 1000);
    }});
    ({BEGIN})(values);
}})"""
"""Told by the page itself: to ask it again and again would have it draw all the time."""
SCRUB = """async () => {
    const stage = ldm.stages()[0].ldm, times = [];
    for (let step = 0; step < 60; step++) {
        const start = performance.now();
        stage.step(step % 20 < 10 ? -1 : 1);
        await new Promise(requestAnimationFrame);
        times.push(performance.now() - start);
        await new Promise((resolve) => setTimeout(resolve, 30));
    }
    return times;
}"""
TRANSFERRED = "() => performance.getEntriesByType('resource').reduce((sum, entry) => sum + entry.transferSize, 0)"


def imports_cpu_seconds() -> float:
    """Process CPU-seconds of the imports that the app cannot do without, the median of three."""
    runs = (subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True) for _ in "123")
    return statistics.median(float(run.stdout) for run in runs)


def open_page(browser, server: Served, query: str) -> tuple[Page, list[str]]:
    """A page that has answered, and the requests to the queue that it makes."""
    page, asked = browser.new_page(viewport={"width": 1280, "height": 720}), []
    page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    page.goto(f"{server.address}/{query}")
    page.wait_for_function(ANSWERED, timeout=120_000)
    return page, asked


def choose(page: Page, **values: str) -> float:
    """Seconds from choices, made as by the address, to the last picture."""
    return page.evaluate(CHOOSE, values)


def begin(page: Page, **values: str) -> None:
    """Choose, and wait for nothing."""
    page.evaluate(BEGIN, values)


def bare(name: str, seed: int) -> float:
    """The seconds of the loop alone with the decodes that the page shows."""
    pipeline = CHECKPOINTS[name].pipeline
    start = time.perf_counter()
    for step in pipeline.denoise([9], [seed], num_inference_steps=STEPS):
        pipeline.codec.decode(step.z_t)
        pipeline.codec.decode(step.z0)
    return time.perf_counter() - start


def beside_bare(act: Callable[[int], float], name: Callable[[int], str]) -> str:
    """The times of an action and of the bare loop, in turn."""
    pairs = [(act(seed), bare(name(seed), seed)) for seed in range(1, REPEATS + 1)]
    page, loop = ([pair[side] for pair in pairs] for side in (0, 1))
    ratio = statistics.median(mine / other for mine, other in pairs)
    return (
        f"p50 {percentile(page, 50):.3f} s, p95 {percentile(page, 95):.3f} s, bare p50 {percentile(loop, 50):.3f} s, "
        f"ratio {ratio:.2f}"
    )


def weigh(browser, server: Served, imports: float) -> None:
    html = len(httpx.get(server.address).content)
    answered = server.cpu_seconds
    page, _ = open_page(browser, server, "")
    print(f"page answers after {answered / imports:.2f} of the imports' {imports:.2f} CPU-seconds")
    print(f"first picture after {server.cpu_seconds / imports:.2f}")
    print(f"HTML {html / 1000:.0f} kB, first load in all {(html + page.evaluate(TRANSFERRED)) / 1000:.0f} kB")
    page.close()


def remember(browser, server: Served) -> None:
    httpx.get(server.address)
    start = server.resident_mb
    for room in ROOMS:
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.goto(f"{server.address}/?room={room.NAME}")
        page.wait_for_timeout(1000)
        page.wait_for_function("() => { const s = ldm.stages()[0]; return !s || s.ldm.done(); }", timeout=120_000)
        page.wait_for_timeout(3000)
        page.close()
    print(f"resident: {start:.0f} MB once it answers, {server.resident_mb:.0f} MB after every room")


def act(browser, server: Served) -> None:
    page, asked = open_page(browser, server, f"?room=denoising&checkpoint={CHECKPOINT}&steps={STEPS}")
    for parameter, value in (("checkpoint", OTHER), ("class_name", "Bag"), ("seed", "1000")):
        asked.clear()
        choose(page, **{parameter: value})
        page.wait_for_timeout(1500)
        print(f"requests when {parameter} changes: {len(asked)}")
    choose(page, checkpoint=CHECKPOINT)
    by_seed = beside_bare(lambda seed: choose(page, seed=str(seed)), lambda _: CHECKPOINT)
    print(f"another seed, to the last picture: {by_seed}")
    names = (CHECKPOINT, OTHER)
    print(
        "another checkpoint, to the last picture:",
        beside_bare(
            lambda n: choose(page, seed=str(2000 + n)) * 0 + choose(page, checkpoint=names[n % 2]),
            lambda n: names[n % 2],
        ),
    )
    times = page.evaluate(SCRUB)
    print(f"scrubbing: p50 {percentile(times, 50):.1f} ms, p95 {percentile(times, 95):.1f} ms")
    page.close()


def share(browser, server: Served) -> None:
    """A reconstruction's time alone, and while another client asks for one longest job after the other."""
    light, _ = open_page(browser, server, "?room=reconstruction&checkpoint=vae-8x8x4&class_name=Bag")
    alone = [choose(light, class_name=name, number=str(number)) for name in ("Coat", "Dress") for number in TEN]
    greedy, _ = open_page(browser, server, f"?room=denoising&checkpoint={CHECKPOINT}&class_name=Bag&seed=5000")
    seeds, shared = itertools.count(5001), []
    for name, number in itertools.product(("Shirt", "Pullover"), TEN):
        if greedy.evaluate(ANSWERED):
            begin(greedy, seed=str(next(seeds)), **LONGEST)
            greedy.wait_for_timeout(1000)
        shared.append(choose(light, class_name=name, number=str(number)))
        light.wait_for_timeout(300)
    print(
        f"light action: p95 {percentile(alone, 95):.3f} s alone, {percentile(shared, 95):.3f} s beside the longest job "
        f"({next(seeds) - 5001} begun), ratio {percentile(shared, 95) / percentile(alone, 95):.2f}"
    )
    greedy.close()
    light.close()


def main() -> None:
    print(conditions())
    imports = imports_cpu_seconds()
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        served(Path(folder) / "log") as server,
    ):
        path = str(CHROMIUM) if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        weigh(browser, server, imports)
        act(browser, server)
        share(browser, server)
        print(f"tracebacks in the log: {server.log.read_text().count('Traceback')}")
        with served(Path(folder) / "log of another") as another:
            remember(browser, another)


CHECKPOINTS = {name: read_checkpoint(Path("checkpoints/fashion_mnist") / name) for name in (CHECKPOINT, OTHER)}

if __name__ == "__main__":
    main()
