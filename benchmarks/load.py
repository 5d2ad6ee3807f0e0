"""A class and one greedy client: 29 clients with a light action every 10 s and a run of 10 steps a minute, and one
that asks for 40 long runs at once, again and again. `python benchmarks/load.py [MINUTES]`

Prints the light actions' times alone and under load, errors, refusals, and the server's memory after a minute and at
the end.
"""

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from served import Served, Session, question_of, served

CLIENTS, LIGHT_EVERY, GENERATE_EVERY, GREEDY_AT_ONCE, ALONE = 29, 10.0, 60.0, 40, 60
CHECKPOINT = "ldm-8x8x4-cosine"
IMAGE = f"checkpoint={CHECKPOINT}&class_name=Bag"
SEEDS = itertools.count(1)
"""What was asked before is kept: each action asks for something else."""


def action(room: str, question: str) -> tuple[str, list[str]]:
    """What a page sends; `{seed}` and `{number}` in the question are others each time."""
    seed = next(SEEDS)
    return question_of(room), [question.format(seed=seed, number=1 + seed % 10)]


LIGHT = (
    ("alphas-betas", IMAGE + "&seed={seed}"),
    ("reconstruction", IMAGE + "&number={number}"),
    ("reconstruction", IMAGE + "&number={number}&b.checkpoint=vae-32x32x1"),
)
GENERATE = ("denoising", IMAGE + "&steps=10&seed={seed}")
GREEDY = {"checkpoint": CHECKPOINT, "class_name": "Bag", "steps": 7, "images": 64}
WAIT_SENTENCE = "wait already"


@dataclass
class Tally:
    """What became of some requests."""

    seconds: list[float] = field(default_factory=list)
    refusals: int = 0
    errors: list[str] = field(default_factory=list)

    async def ask(self, session: Session, name: str, values: list) -> None:
        start = time.perf_counter()
        try:
            outcome, answer = await session.ask(name, values)
        except httpx.HTTPError as error:
            outcome, answer = type(error).__name__, str(error)
        if outcome == "complete":
            self.seconds.append(time.perf_counter() - start)
        elif WAIT_SENTENCE in str(answer):
            self.refusals += 1
        else:
            self.errors.append(f"{outcome}: {str(answer)[:120]}")

    def line(self, name: str) -> str:
        times = (
            f"p50 {percentile(self.seconds, 50):.3f} s, p95 {percentile(self.seconds, 95):.3f} s"
            if self.seconds
            else ""
        )
        return f"{name}: {len(self.seconds)} answered, {self.refusals} refused, {len(self.errors)} errors; {times}"


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else float("nan")


async def student(number: int, client: httpx.AsyncClient, light: Tally, generate: Tally, until: float) -> None:
    """A light action every 10 s, of the three in turn, and a Generate a minute; they do not wait for one another."""
    session = Session(client, f"student{number}")
    actions, tasks, start = itertools.cycle(LIGHT), [], time.monotonic() + number * LIGHT_EVERY / CLIENTS
    moments = [(start + LIGHT_EVERY * k, light) for k in range(int((until - start) // LIGHT_EVERY))]
    moments += [
        (start + 1 + 2 * number + GENERATE_EVERY * k, generate) for k in range(int((until - start) // GENERATE_EVERY))
    ]
    for moment, tally in sorted(moments, key=lambda entry: entry[0]):
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        chosen = next(actions) if tally is light else GENERATE
        tasks.append(asyncio.create_task(tally.ask(session, *action(*chosen))))
    await asyncio.gather(*tasks)


async def greedy(client: httpx.AsyncClient, tally: Tally, until: float) -> None:
    """A program that calls an endpoint: what a page asks a room ends what it asked there before."""
    session, name = Session(client, "greedy"), "denoising"
    described = (await client.get("/gradio_api/info")).json()["named_endpoints"][f"/{name}"]["parameters"]
    left_out = {parameter["parameter_name"]: parameter.get("parameter_default") for parameter in described}
    while time.monotonic() < until:
        asked = [list((left_out | GREEDY | {"seed": next(SEEDS)}).values()) for _ in range(GREEDY_AT_ONCE)]
        await asyncio.gather(*(tally.ask(session, name, values) for values in asked))


async def run(server: Served, minutes: float) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.address, timeout=None, limits=limits) as client:
        for _ in range(2):  # the first answers load the models
            for chosen in (*LIGHT, GENERATE):
                await Tally().ask(Session(client, "warm-up"), *action(*chosen))
        alone = Tally()
        for chosen in itertools.islice(itertools.cycle(LIGHT), ALONE):
            await alone.ask(Session(client, "alone"), *action(*chosen))
        print(alone.line("light alone"), flush=True)
        light, generate, greed = Tally(), Tally(), Tally()
        until = time.monotonic() + 60 * minutes
        work = [student(number, client, light, generate, until) for number in range(CLIENTS)]
        everything = asyncio.gather(*work, greedy(client, greed, until))
        await asyncio.sleep(60)
        after_a_minute = server.resident_mb
        await everything
    for name, tally in (("light", light), ("generate", generate), ("greedy", greed)):
        print(tally.line(name), *tally.errors[:5], sep="\n  ")
    asked = sum(len(tally.seconds) + tally.refusals + len(tally.errors) for tally in (light, generate))
    print(f"light p95 over alone: {percentile(light.seconds, 95) / percentile(alone.seconds, 95):.2f}")
    print(f"refusals of the 29: {(light.refusals + generate.refusals) / asked:.2%}")
    memory = server.resident_mb
    print(
        f"resident: {after_a_minute:.0f} MB after a minute, {memory:.0f} MB at the end, {memory / after_a_minute:.3f}"
    )


def main(minutes: float = 5) -> None:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "log") as server:
        asyncio.run(run(server, minutes))
        tracebacks = server.log.read_text().count("Traceback")
        print(f"tracebacks in the log: {tracebacks}")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
