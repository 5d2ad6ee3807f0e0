"""Who sends a request: a session, and the address that it comes from."""

import ipaddress
import os

from starlette.requests import HTTPConnection


def on_a_space() -> bool:
    """Whether this runs on Hugging Face Spaces, behind its proxy."""
    return bool(os.environ.get("SPACE_ID"))


def address_of(request: HTTPConnection) -> str:
    """The client's address. A forwarded header counts on a Space alone: elsewhere whoever asks can write one.

    Each proxy appends the address that it saw, so the last public one is the last that was not the client's own word.
    """
    if on_a_space():
        for address in reversed(request.headers.get("x-forwarded-for", "").split(",")):
            if _is_public(address.strip()):
                return address.strip()
    return request.client.host if request.client else "unknown"


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
