"""Answers that wait for their clients to fetch them, as many bytes of them as the server can spare."""

import time
from asyncio import Queue
from collections import OrderedDict

from gradio.server_messages import EventMessage, ProcessCompletedMessage, ProcessGeneratingMessage

from ldm_explorer.ui.server.limits import MAX_SESSIONS, MAX_UNREAD_BYTES, UNREAD_SECONDS

AGAIN_SECONDS = 10.0
"""As long as the page shows a refusal."""


class Messages(Queue):
    """The messages of one session; gradio puts them in and its route takes them out."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.readers = 0, 0
        self._last = "", 0.0  # what was refused last, and when
        self.since = time.monotonic()  # when the oldest of them came; of none, when the last one was fetched

    def says_again(self, sentence: str) -> bool:
        """Whether the session was told the same a moment ago: a wrong value is refused by each room that needs it."""
        last, self._last = self._last, (sentence, time.monotonic())
        return last[0] == sentence and time.monotonic() - last[1] < AGAIN_SECONDS

    async def get(self) -> EventMessage:
        self.readers += 1
        try:
            return await super().get()
        finally:
            self.readers -= 1

    def _put(self, message: EventMessage) -> None:
        self.since = time.monotonic() if self.empty() else self.since
        self.bytes += _size(message)
        super()._put(message)

    def _get(self) -> EventMessage:
        message = super()._get()
        self.bytes -= _size(message)
        self.since = time.monotonic()
        return message


class Mailboxes(OrderedDict[str, Messages]):
    """The messages of each session; those that nobody fetched for longest are dropped where they become too many."""

    def __setitem__(self, session: str, messages: Queue) -> None:
        super().__setitem__(session, messages if isinstance(messages, Messages) else Messages())

    def overdue(self) -> list[str]:
        """The sessions to drop, longest unread first: who is gone, and who is too many. One that waits for its next
        message holds nothing and is not dropped for the sake of others, however many they are."""
        total, dropped, long_ago = sum(box.bytes for box in self.values()), [], time.monotonic() - UNREAD_SECONDS
        left = sum(not box.readers for box in self.values())
        for session, messages in sorted(self.items(), key=lambda item: item[1].since):
            gone = messages.since < long_ago and not messages.empty()
            too_large = total > MAX_UNREAD_BYTES and not messages.empty()
            too_many = left > MAX_SESSIONS and not messages.readers
            if gone or too_large or too_many:
                total, left = total - messages.bytes, left - (not messages.readers)
                dropped.append(session)
        return dropped


def _size(message: EventMessage) -> int:
    """Bytes of the texts in an answer, which are nearly all of it."""
    if not isinstance(message, ProcessCompletedMessage | ProcessGeneratingMessage) or not message.output:
        return 100
    return 100 + sum(map(_text_bytes, message.output.get("data") or ()))


def _text_bytes(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_text_bytes, value.values()))
    return sum(map(_text_bytes, value)) if isinstance(value, list | tuple) else 8
