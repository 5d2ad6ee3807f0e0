"""Start the server: it waits until the page answers, however busy the machine is."""

import logging
import socket
import time
from collections.abc import Sequence

import httpx
from fastapi.exceptions import RequestValidationError
from gradio import Blocks
from starlette.middleware import Middleware
from starlette.routing import Route

from ldm_explorer.malloc import M_ARENA_MAX, set_malloc
from ldm_explorer.openmp import release_threads
from ldm_explorer.ui.server.fair_queue import FairQueue
from ldm_explorer.ui.server.limits import MAX_UPLOAD_BYTES, Limits
from ldm_explorer.ui.server.mcp import answer_in_json
from ldm_explorer.ui.server.routes import Routes, refuse_malformed
from ldm_explorer.ui.server.work import queue_by_work

START_SECONDS = 300
_log = logging.getLogger(__name__)


class CannotStart(OSError):
    """The server does not start; the message says why and what to do."""


def launch(app: Blocks, limits: Limits, routes: Sequence[Route] = (), mcp: bool = False, **options) -> str:
    """Serve the app in the background and return its address once the page answers.

    `routes` are served beside gradio's, `mcp` serves the endpoints as tools, too; `options` are gradio's. Raises
    `CannotStart` with one sentence where it does not start.
    """
    _check_host(options.get("server_name"))
    _protect(app, limits)
    endpoints = frozenset(fn.api_name for fn in app.fns.values() if fn.api_visibility != "private")
    try:
        _, address, _ = app.launch(
            prevent_thread_lock=True,
            max_file_size=MAX_UPLOAD_BYTES,
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            app_kwargs={
                "middleware": [Middleware(Routes, limits=limits, endpoints=endpoints, mcp=mcp)],
                "routes": list(routes),
                "exception_handlers": {RequestValidationError: refuse_malformed},
            },
            mcp_server=mcp,
            _frontend=False,  # gradio gives the page 3 seconds and then raises; we wait
            **options,
        )
    except OSError as error:
        port = options.get("server_port")
        raise CannotStart(f"port {port} is taken" if port else "no port from 7860 on is free") from error
    if app.mcp_server_obj is not None:
        answer_in_json(app.mcp_server_obj)
    wait_until_it_answers(app.local_url)
    return address


def _check_host(host: str | None) -> None:
    """Raise `CannotStart` for what is no address of this machine: gradio would try every port there."""
    if host is None:
        return
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
    except OSError as error:
        raise CannotStart(f"{host} is no address of this machine") from error


def _protect(app: Blocks, limits: Limits) -> None:
    queue_by_work(app)
    app.queue(api_open=False)
    app._queue = FairQueue(app, limits)
    release_threads()
    set_malloc(M_ARENA_MAX, 2)  # pools of freed memory: by default every thread of a server has one of its own


def wait_until_it_answers(address: str) -> None:
    """Ask for the page until it comes. Raises `CannotStart` where it does not come within minutes."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(address, timeout=START_SECONDS, verify=False, trust_env=False).is_success:
                return
        except httpx.HTTPError as error:
            _log.debug("the page does not answer yet: %s", error)
        time.sleep(0.2)
    raise CannotStart(f"the page does not answer at {address} within {START_SECONDS} s: is a firewall in between?")
