"""The routes that the page and its documented endpoints need, and nothing else of what gradio serves."""

import json
import logging
import re
import time
from collections import defaultdict, deque
from typing import Any

from fastapi.exceptions import HTTPException, RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ldm_explorer.ui.server.clients import address_of
from ldm_explorer.ui.server.limits import MAX_REQUEST_BYTES, MAX_UPLOAD_BYTES, Limits
from ldm_explorer.ui.server.refusals import UNFORESEEN, RefusalLog

OPEN_TO_READ = re.compile(
    r"/|/(api|config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static|svelte|pwa_icon)(/.*)?"
    r"|/gradio_api/(info|app_id|startup-events|theme\.css|upload_progress|queue/(data|status))/?"
    r"|/gradio_api/(heartbeat|call)/.+|/gradio_api/file=.+|/images/[0-9]{1,6}\.png|/page/[0-9a-f]{16}\.js"
)
OPEN_TO_WRITE = re.compile(r"/gradio_api/(queue/join|cancel|reset|upload|call/[^/]+)/?")
MCP = re.compile(r"/gradio_api/mcp(/http)?/?")
"""The one way that tools are asked over; open where the app was started with it."""
UPLOAD = "/gradio_api/upload"
KEPT_SECONDS = 3600
MAX_FILES_AT_ONCE = 4
"""The page sends one; each request counts as one upload."""
_log = logging.getLogger(__name__)


class TooMuch(Exception):
    """A request body of more bytes than it may have."""


class Routes:
    """ASGI middleware: closes all other routes, bounds what a request carries, says each failure in a sentence."""

    def __init__(self, app: ASGIApp, limits: Limits, endpoints: frozenset[str], mcp: bool = False):
        self.app, self.endpoints, self.mcp = app, endpoints, mcp
        self.uploads, self.refusals = Uploads(limits), RefusalLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, started = Request(scope), False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if (refusal := self._refusal(request)) is None:
                await self.app(scope, self._bounded(request, receive), watched)
                return
        except TooMuch as error:
            refusal = sentence(413, str(error))
        except HTTPException as error:
            refusal = sentence(error.status_code, str(error.detail))
        except Exception as error:
            if not isinstance(error.__cause__, HTTPException):  # of a stream that had begun: its session is gone
                _log.exception("a route failed: %s", request.scope["path"][:200])
            refusal = sentence(500, UNFORESEEN)
        if started:
            return
        self.refusals.write(address_of(request), json.loads(bytes(refusal.body))["detail"])
        await refusal(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        path = request.scope["path"]  # the URL is made with the Host header, which anybody can write
        if self.mcp and MCP.fullmatch(path):
            return None
        if request.method in ("GET", "HEAD", "OPTIONS") and OPEN_TO_READ.fullmatch(path):
            return None
        if request.method in ("POST", "OPTIONS") and OPEN_TO_WRITE.fullmatch(path):
            name = path.rstrip("/").rpartition("/")[2]
            if "/call/" in path and name not in self.endpoints:
                return sentence(404, f"there is no endpoint /{name[:80]}: /gradio_api/info lists them")
            if path.startswith(UPLOAD) and not self.uploads.allow(address_of(request), _length(request)):
                return sentence(429, "your address has uploaded as much as is kept for an hour: try again later")
            return None
        if re.match(r"/gradio_api/(run|api)/", path):
            return sentence(404, "this route is closed: use gradio_client, or POST to /gradio_api/call/ENDPOINT")
        return sentence(404, "there is nothing at this address")

    def _bounded(self, request: Request, receive: Receive) -> Receive:
        """What the client sends, up to the bytes it may send."""
        is_upload = request.scope["path"].startswith(UPLOAD)
        most = MAX_UPLOAD_BYTES if is_upload else MAX_REQUEST_BYTES
        if _length(request) > most:
            raise TooMuch(f"the request has {_length(request):,} bytes: send at most {most:,}")
        came = files = 0

        async def bounded() -> Message:
            nonlocal came, files
            message = await receive()
            body = message.get("body", b"")
            came, files = came + len(body), files + body.lower().count(b"content-disposition") * is_upload
            if came > most:
                raise TooMuch(f"the request has more than {most:,} bytes: send fewer")
            if files > MAX_FILES_AT_ONCE:
                raise TooMuch(f"the request has more than {MAX_FILES_AT_ONCE} files: send one at a time")
            return message

        return bounded


class Uploads:
    """How much each address has uploaded within the hour that uploads are kept."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.by_address: dict[str, deque[tuple[float, int]]] = defaultdict(deque)

    def allow(self, address: str, length: int) -> bool:
        """Whether an address may upload so many bytes more; they count from now on."""
        now = time.monotonic()
        for known in [address, *list(self.by_address)[:8]]:  # a few others each time, so that none is kept forever
            uploads = self.by_address[known]
            while uploads and uploads[0][0] < now - KEPT_SECONDS:
                uploads.popleft()
            if not uploads:
                del self.by_address[known]
        uploads = self.by_address[address]
        length = length or MAX_UPLOAD_BYTES
        total = sum(each for _, each in uploads) + length
        if len(uploads) >= self.limits.upload_files or total > self.limits.upload_bytes:
            return False
        uploads.append((now, length))
        return True


def _length(request: Request) -> int:
    """The bytes that a request says it has, 0 where it does not say."""
    text = request.headers.get("content-length", "0")
    return int(text) if text.isdecimal() and len(text) < 16 else 0


def sentence(status: int, text: str) -> JSONResponse:
    """A refusal as gradio's own are shaped."""
    return JSONResponse({"detail": text}, status)


async def refuse_malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
    """What FastAPI cannot read, without its echo of what came."""
    first: dict[str, Any] = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])[:80]
    return sentence(422, f"the request's {where} does not fit: {first['msg'][:200]}")
