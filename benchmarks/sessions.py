"""What sessions leave behind: resident memory of the app before and after new ones. `python benchmarks/sessions.py [N]`

Every second one reads the answer to its picture; the others ask for a run and never read.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import httpx
from served import Served, Session, functions, question_of, served

PICTURE, RUN = question_of("reconstruction"), question_of("denoising")
IMAGE = "checkpoint=ldm-8x8x4-cosine&class_name=Bag"
AFTERWARDS_SECONDS = 20


async def visit(client: httpx.AsyncClient, number: int, reads: bool) -> None:
    if reads:
        await Session(client, f"new {number}").ask(PICTURE, [f"{IMAGE}&number={1 + number % 10}"])
    else:
        body = {"session_hash": f"new {number}", "fn_index": (await functions(client))[RUN]}
        body["data"] = [f"{IMAGE}&steps=4&seed={number}"]
        await client.post("/gradio_api/queue/join", json=body)


async def measure(server: Served, sessions: int) -> None:
    async with httpx.AsyncClient(base_url=server.address, timeout=120) as client:
        for number in range(20):
            await Session(client, f"first {number}").ask(PICTURE, [IMAGE])
            await Session(client, f"first {number}").ask(RUN, [f"{IMAGE}&steps=4&seed={number}"])
        before = server.resident_mb
        for number in range(sessions):
            await visit(client, number, reads=number % 2 == 1)
            if (number + 1) % 500 == 0:
                print(f"{number + 1} sessions: {server.resident_mb - before:+.0f} MB", flush=True)
        await asyncio.sleep(AFTERWARDS_SECONDS)
        print(f"at the end: {server.resident_mb - before:+.0f} MB over {before:.0f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "log") as server:
        asyncio.run(measure(server, int(sys.argv[1]) if sys.argv[1:] else 2000))
