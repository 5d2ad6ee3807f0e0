"""Bad calls to a running app, and mutated run folders: `python benchmarks/fuzz.py [CALLS] [MUTANTS]`.

Calls go over HTTP: values that do not fit, counts that do not fit, private functions by their number, forged states,
sessions and fields, closed routes, raw bytes. Seeds are fixed. Prints what came back, and the server's memory; ends
with status 1 where a client saw a traceback or an error without a sentence, or the server ended.
"""

import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from broken_folders import report, run_mutants
from served import Served, Session, numbers_in, question_of, served

from ldm_explorer.ui.rooms import ROOMS

CALLS, MUTANTS, AT_ONCE, WARM_UP = 2_000, 1_000, 8, 200
ANSWER_SECONDS = 20
LOST = "no answer"
SEED = 0
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    float("inf"),
    2**63,
    10**400,
    "",
    "x" * 50_000,
    "../../etc/passwd",
    "<img src=x onerror=alert(1)>",
    "checkpoint=ldm-8x8x4-cosine&class_name=Bag&steps=1e9&b.sampler=%00",
    "checkpoint=ldm-8x8x4-cosine&class_name=Bag&upload=/etc/passwd",
    "checkpoint=ldm-8x8x4-cosine&class_name=%ff%ed%a0%80&seed=",
    "&".join(f"b.{number}=%3Cb%3E" for number in range(300)),
    "\x00\ud800",
    "a*z_t - b*v" * 40,
    "__import__('os').system('true')",
    [],
    ["x"] * 5_000,
    [[[[[]]]]],
    {},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"path": "http://127.0.0.1:9/x.png", "meta": {"_type": "gradio.FileData"}},
    {"__type__": "update", "value": 1},
)
ROUTES = ("run/predict", "api/denoising", "component_server", "process_recording", "vibe-edit", "deep_link", "nothing")
CONTENT_TYPES = ("application/json", "text/plain", "multipart/form-data; boundary=x")
BYTES = (b"", b"{", b"null", b"[" * 60_000, b"\xff\xfe", b'{"data": 1}', b"x" * 400_000)


class Fuzzer:
    """Draws bad calls and counts what comes back."""

    def __init__(self, client: httpx.AsyncClient, config: dict, seed: int = SEED):
        self.client, self.draw, self.seen, self.bad = client, random.Random(seed), Counter(), []
        self.config = config
        self.functions = {item["id"]: item for item in config["dependencies"] if item["backend_fn"]}
        self.opening = {item["id"]: item["props"].get("value") for item in config["components"]}

    async def call(self, number: int) -> None:
        kinds = {self._values: 8, self._question: 6, self._count: 2, self._forged: 3, self._route: 2, self._bytes: 1}
        kind = self.draw.choices(list(kinds), list(kinds.values()))[0]
        try:
            outcome, answer = await kind(f"fuzz{number}")
        except (httpx.HTTPError, TimeoutError) as error:
            outcome, answer = LOST, repr(error)
        text = json.dumps(answer, default=str)
        self.seen[outcome] += 1
        said = answer.get("error") or answer.get("detail") if isinstance(answer, dict) else answer
        if (
            "Traceback" in text
            or (outcome not in ("complete", "answered") and not said)
            or outcome == "connection lost"
        ):
            self.bad.append(f"{kind.__name__}: {outcome}: {text[:300]}")

    def _call(self, function: dict) -> list[Any]:
        return [self.opening.get(component) for component in function["inputs"]]

    async def _question(self, session: str) -> tuple[str, Any]:
        """A room asked with some of its parameters, any of them with a value that does not fit."""
        room = self.draw.choice(ROOMS)
        names = [f"{self.draw.choice(('', 'b.'))}{name}" for name in room.SETTINGS.model_fields]
        values = {name: self.draw.choice(HOSTILE) for name in self.draw.sample(names, self.draw.randint(0, len(names)))}
        opening = {"checkpoint": "ldm-8x8x4-cosine", "class_name": "Bag", "steps": 2}
        text = {name: str(value)[:1_000].encode(errors="replace") for name, value in (opening | values).items()}
        return await self._send(session, numbers_in(self.config)[question_of(room.NAME)], [urlencode(text)])

    async def _values(self, session: str) -> tuple[str, Any]:
        """One or more values of a function, public or private, that do not fit."""
        function = self.draw.choice(list(self.functions.values()))
        values = self._call(function)
        for place in self.draw.sample(range(len(values)), self.draw.randint(min(1, len(values)), len(values))):
            values[place] = self.draw.choice(HOSTILE)
        return await self._send(session, function["id"], values)

    async def _count(self, session: str) -> tuple[str, Any]:
        function = self.draw.choice(list(self.functions.values()))
        values = self._call(function)[: self.draw.randrange(3)] + [self.draw.choice(HOSTILE)] * self.draw.randrange(40)
        return await self._send(session, function["id"], values)

    async def _forged(self, session: str) -> tuple[str, Any]:
        function = self.draw.choice(self.config["dependencies"])
        forged = {name: self.draw.choice(HOSTILE) for name in ("event_id", "event_data", "trigger_id", "batched")}
        number = self.draw.choice((function["id"], -1, 10**9, None, "denoising"))
        name = self.draw.choice((session, f"../../{session}", session + "x" * 1_000, f"<b>{session}", 5, None))
        return await self._send(name, number, self._call(function), **forged)

    async def _route(self, _session: str) -> tuple[str, Any]:
        return _outcome(await self.client.post(f"/gradio_api/{self.draw.choice(ROUTES)}", json={"data": [None] * 3}))

    async def _bytes(self, _session: str) -> tuple[str, Any]:
        route = self.draw.choice(("queue/join", "call/denoising", "call/nothing", "cancel", "upload"))
        headers = {
            "content-type": self.draw.choice(("application/json", "text/plain", "multipart/form-data; boundary=x"))
        }
        return _outcome(
            await self.client.post(f"/gradio_api/{route}", content=self.draw.choice(BYTES), headers=headers)
        )

    async def _send(self, session: Any, function: Any, values: list[Any], **more: Any) -> tuple[str, Any]:
        body = {"data": values, "fn_index": function, "session_hash": session} | more
        content, headers = json.dumps(body), {"content-type": "application/json"}
        joined = await self.client.post("/gradio_api/queue/join", content=content, headers=headers)
        if not joined.is_success:
            return _outcome(joined)
        reader = Session(self.client, session)
        return await asyncio.wait_for(reader.answer(joined.json()["event_id"]), ANSWER_SECONDS)


def _outcome(response: httpx.Response) -> tuple[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = response.text
    return f"status {response.status_code}" if not response.is_success else "answered", answer


async def fuzz(server: Served, calls: int) -> list[str]:
    async with httpx.AsyncClient(base_url=server.address, timeout=120) as client:
        fuzzer = Fuzzer(client, (await client.get("/config")).json())
        numbers = iter(range(calls))

        async def work() -> None:
            for number in numbers:
                await fuzzer.call(number)
                if number == WARM_UP:
                    memory.append(server.resident_mb)

        memory: list[float] = []
        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        memory.append(server.resident_mb)
        answers = await Session(client, "after").ask("checkpoints", [])
    print(f"{calls} bad calls: {dict(fuzzer.seen)}")
    print(f"tracebacks, errors without a sentence, lost connections: {len(fuzzer.bad)}", *fuzzer.bad[:10], sep="\n  ")
    log = server.log.read_text(errors="replace")
    print(f"tracebacks in the log: {log.count('Traceback')}; the log has {len(log) / 1e3:.0f} kB")
    if len(memory) > 1:
        print(
            f"resident: {memory[0]:.0f} MB after {WARM_UP}, {memory[1]:.0f} MB at the end: {memory[1] / memory[0]:.3f}"
        )
    print(f"the server {'answers' if answers[0] == 'complete' else 'DOES NOT answer'} afterwards")
    return fuzzer.bad + ([] if answers[0] == "complete" and server.alive else ["the server does not answer"])


def main(calls: int = CALLS, mutants: int = MUTANTS) -> int:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "log") as server:
        bad = asyncio.run(fuzz(server, calls))
    outcomes = run_mutants(mutants, SEED)
    print(report(outcomes))
    return 1 if bad or any(outcome.faults or outcome.too_dear for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
