"""The app in a process of its own, and a client so light that it hardly costs the server its cores."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx

REPO = Path(__file__).resolve().parents[1]
START_SECONDS = 300


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served:
    """A running server: its address, its log and what it costs."""

    def __init__(self, process: subprocess.Popen, port: int, log: Path):
        self.process, self.address, self.log = process, f"http://127.0.0.1:{port}", log

    @property
    def resident_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


@contextmanager
def served(log: Path, *options: str) -> Iterator[Served]:
    """`python app.py` until the block ends; stdout and stderr go to `log`."""
    port = free_port()
    command = [sys.executable, "app.py", "--port", str(port), *options]
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False"}
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=REPO, stdout=file, stderr=subprocess.STDOUT, env=environment)
        try:
            server = Served(process, port, log)
            _wait(server)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _wait(server: Served) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.alive:
        try:
            urlopen(server.address, timeout=START_SECONDS).read()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"the app did not start: {server.log.read_text()[-500:]}")


class Session:
    """One client: requests join the queue, and one stream brings all of its answers, as for a page."""

    def __init__(self, client: httpx.AsyncClient, name: str):
        self.client, self.name = client, name
        self.waiting: dict[str, asyncio.Future] = {}
        self.reader: asyncio.Task | None = None

    async def ask(self, name: str, values: list) -> tuple[str, object]:
        """One request to the end: ("complete" or "error", what came), or the HTTP status that refused it.

        `name` is that of an endpoint, or `question_of` a room, which takes one query string.
        """
        body = {"data": values, "session_hash": self.name, "fn_index": (await functions(self.client))[name]}
        joined = await self.client.post("/gradio_api/queue/join", json=body)
        if not joined.is_success:
            return f"status {joined.status_code}", joined.text
        return await self.answer(joined.json()["event_id"])

    async def answer(self, event: str) -> tuple[str, object]:
        """What becomes of a request that has joined."""
        answer = self.waiting.setdefault(event, asyncio.Future())
        if self.reader is None or self.reader.done():
            self.reader = asyncio.create_task(self._read())
        try:
            return await answer
        finally:
            self.waiting.pop(event, None)

    async def _read(self) -> None:
        try:
            while self.waiting:
                await self._read_stream()
        except (httpx.HTTPError, RuntimeError) as error:  # a client that was closed raises the latter
            for answer in self.waiting.values():
                if not answer.done():
                    answer.set_exception(error)

    async def _read_stream(self) -> None:
        async with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.name}) as stream:
            async for line in stream.aiter_lines():
                if '"process_completed"' in line[:200]:
                    self._complete(json.loads(line.removeprefix("data: ")))
                elif '"close_stream"' in line[:200]:
                    break

    def _complete(self, message: dict) -> None:
        answer = self.waiting.pop(message["event_id"], None)
        if answer is None:  # it came before the answer to the request itself
            self.waiting[message["event_id"]] = answer = asyncio.Future()
        answer.set_result(("complete" if message["success"] else "error", message["output"]))


@cache
def _config(_address: str) -> dict[str, int]:
    return {}


async def functions(client: httpx.AsyncClient) -> dict[str, int]:
    """`numbers_in` the configuration of the app, which is fetched once."""
    known = _config(str(client.base_url))
    if not known:
        known |= numbers_in((await client.get("/config")).json())
    return known


def question_of(room: str) -> str:
    """The name of a room's question: what the page asks when the room is open."""
    return f"ldm-ask-{room}"


def numbers_in(config: dict[str, Any]) -> dict[str, int]:
    """The number of each function by its name: that of its endpoint, and of a question that of its hidden text."""
    names = {item["id"]: item["props"].get("elem_id") for item in config["components"]}
    named = {item["api_name"]: item["id"] for item in config["dependencies"] if item["api_name"]}
    asked = {names[item["inputs"][0]]: item["id"] for item in config["dependencies"] if len(item["inputs"]) == 1}
    return named | {name: number for name, number in asked.items() if name}
