"""What a client is told when it cannot have what it asked for, and the one line that the log keeps of it."""

import logging
import time

UNFORESEEN = "Something went wrong that should not have; the app goes on. The server's log has the details."
STOPPED = "stopped"
"""Of a request that its client ended: nobody has to be told."""
MAX_SENTENCE = 800
LOGGED_PER_MINUTE = 30
_log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is not carried out; the message is one sentence for whoever sent it."""


def cut(sentence: str, most: int = MAX_SENTENCE) -> str:
    """A sentence that may quote what came from outside, of bounded length."""
    return sentence if len(sentence) <= most else f"{sentence[: most - 1]}…"


class RefusalLog:
    """A line per refusal, and how many were left out where there are more than the log can be read with."""

    def __init__(self) -> None:
        self._minute, self._lines, self._left_out = 0, 0, 0

    def write(self, address: str, sentence: str) -> None:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            if self._left_out:
                _log.warning("%d more refusals were not logged", self._left_out)
            self._minute, self._lines, self._left_out = minute, 0, 0
        if self._lines >= LOGGED_PER_MINUTE:
            self._left_out += 1
            return
        self._lines += 1
        _log.warning("refused %s: %s", address, cut(" ".join(sentence.split()), 200))
