"""Who sends a request: a session, and the address that it comes from."""

import ipaddress
import os
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


def on_a_space() -> bool:
    """Whether this runs on Hugging Face Spaces, behind its proxy."""
    return bool(os.environ.get("SPACE_ID"))


def on_this_machine(request: HTTPConnection | None) -> bool:
    """Whether who asks sits at the machine that the server runs on, and no proxy or page of another site asks for them.

    A tunnel or a proxy also connects from here, and so does a page that a browser opened: they show by what they
    forward, and by the host that was asked for or that the page is of.
    """
    headers = getattr(request, "headers", None)
    if request is None or headers is None or on_a_space() or any(name in headers for name in FORWARDED):
        return False
    named = [f"//{headers.get('host', '')}", *filter(None, [headers.get("origin")])]
    return _is_loopback(request.client.host if request.client else "") and all(map(_names_loopback, named))


def _names_loopback(url: str) -> bool:
    try:
        return _is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def _is_loopback(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


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
