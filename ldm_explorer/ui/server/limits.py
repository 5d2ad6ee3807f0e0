"""How much one client may ask of the server."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Limits:
    """A session is one open page or one API client; as sessions are free, an address has wider limits of its own."""

    gflops: float = 700.0
    """Floating-point operations of the networks that one walk from noise may cost, in 1e9: two cores do them in about
    10 s. B has a walk of its own."""
    waiting_light: int = 40
    """Requests of one session that may wait for light work; a room with all parts unfolded asks six at once."""
    waiting_long: int = 8
    """A quick walk through all rooms asks for six, with all parts unfolded."""
    waiting_light_per_address: int = 600
    """A class may share one address, and choose another checkpoint at once."""
    waiting_long_per_address: int = 60
    running_light: int = 4
    """Requests of one session that are worked on at once."""
    running_long: int = 2
    unread: int = 200
    """Answers that may wait for a session to fetch them."""
    upload_files: float = 200
    """Uploads of one address within an hour, as long as they are kept."""
    upload_bytes: float = 300e6


LIMITS = {
    "on": Limits(),
    "off": Limits(
        gflops=inf,
        waiting_light=10_000,
        waiting_long=10_000,
        waiting_light_per_address=10_000,
        waiting_long_per_address=10_000,
        running_light=40,
        running_long=40,
        unread=100_000,
        upload_files=inf,
        upload_bytes=inf,
    ),
}
"""By the word after `--limits`; off is for one's own machine."""

MAX_REQUEST_BYTES = 262_144
"""Of a request that is no upload; the longest one that the page sends has some kilobytes."""

MAX_UPLOAD_BYTES = 20_000_000
MAX_LOG_BYTES = 4_000_000
"""Of an uploaded log: it is read in the server, in a second or two."""

MAX_PASTED_CHARACTERS = 200_000
"""Of a log as text, which has to fit into a request."""

MAX_SESSIONS = 200
"""Sessions whose state is kept; one that is dropped begins with the page's opening values again."""

MAX_SESSION_NAME = 100
"""Characters of a session's hash, which its client makes up; the page's have 11, gradio_client's 36."""

MAX_UNREAD_BYTES = 24_000_000
"""Answers of all sessions that wait to be fetched."""

UNREAD_SECONDS = 60
"""A client that leaves an answer unfetched for so long is gone: its requests end."""
