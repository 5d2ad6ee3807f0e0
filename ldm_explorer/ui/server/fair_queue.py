"""Gradio's queue with limits for each client, a fair order, and one sentence for whatever is refused."""

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

import fastapi
from gradio import Blocks
from gradio.block_function import BlockFunction
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event, Queue
from gradio.routes import App
from gradio.server_messages import EventMessage, ProcessCompletedMessage

from ldm_explorer.ui.html import escaped
from ldm_explorer.ui.server.clients import address_of
from ldm_explorer.ui.server.inputs import InputCheck
from ldm_explorer.ui.server.limits import MAX_SESSION_NAME, MAX_SESSIONS, Limits
from ldm_explorer.ui.server.messages import Mailboxes, Messages
from ldm_explorer.ui.server.refusals import STOPPED, UNFORESEEN, RefusalLog, Refused, cut
from ldm_explorer.ui.server.sessions import Sessions
from ldm_explorer.ui.server.turns import TURNS, Job
from ldm_explorer.ui.server.work import LONG

SHOWN = {"visible": True, "duration": 10, "title": "Error"}
"""What makes the page show an error's sentence, as gradio gives it for its own."""


ENDED = {"error": STOPPED, "visible": False}


class FairQueue(Queue):
    """Admits what the limits allow and lets the client go first who has least under way."""

    def __init__(self, blocks: Blocks, limits: Limits):
        super().__init__(
            live_updates=True,
            concurrency_count=blocks.max_threads,
            update_intervals=1,
            max_size=None,  # it would count all queues together, before anything else
            blocks=blocks,
        )
        self.limits, self.refusals, self.inputs = limits, RefusalLog(), InputCheck(blocks)
        self.inputs.leave_changing_bounds_to_handlers()
        self.pending_messages_per_session = Mailboxes()
        self.sleep_when_free = 0.005
        self.ANALYTICS_MAX_EVENTS = 1  # gradio makes a table of them after every failure, for a page that is closed

    def set_server_app(self, app: App) -> None:
        app.state_holder = Sessions(app.get_blocks(), MAX_SESSIONS)
        super().set_server_app(app)

    async def push(self, body: PredictBodyInternal, request: fastapi.Request, username: str | None):
        """As gradio's; a refusal is an answer that fails, so every client shows its sentence."""
        body.batched, body.event_data, body.trigger_id, body.oauth_token = False, None, None, None
        if body.session_hash is not None and not 0 < len(body.session_hash) <= MAX_SESSION_NAME:
            raise fastapi.HTTPException(400, f"session_hash is empty or long: give 1 to {MAX_SESSION_NAME} characters")
        await self._drop_unread()
        if len(self.pending_event_ids_session.get(body.session_hash, ())) >= self.limits.unread:
            raise fastapi.HTTPException(429, f"{self.limits.unread} answers wait for you: fetch them first")
        try:
            self._check(body, request)
        except Refused as refusal:
            return True, self._refuse(body, request, str(refusal)), "success"
        self._supersede(body)
        return await super().push(body, request, username)

    def _supersede(self, body: PredictBodyInternal) -> None:
        """Where a page asks a room something else, or nothing, what it asked before ends."""
        fn = self.blocks.fns[body.fn_index]  # type: ignore[index]
        if not getattr(fn.fn, "supersedes", False) or body.session_hash is None:
            return

        def is_older(event: Event) -> bool:
            return event.session_hash == body.session_hash and event.fn is fn

        for queue in self.event_queue_per_concurrency_id.values():
            for event in filter(is_older, tuple(queue.queue)):
                queue.queue.remove(event)
                self.send_message(event, ProcessCompletedMessage(output=dict(ENDED), title="Error", success=False))
        for event in filter(is_older, [event for job in self.active_jobs for event in job or ()]):
            TURNS.stop(event._id)

    def _check(self, body: PredictBodyInternal, request: fastapi.Request) -> None:
        """Raise `Refused` for what is not there, does not fit, or is more than its client may ask for now."""
        fn = self.blocks.fns.get(body.fn_index)
        if fn is None or fn.fn is None:
            raise Refused("there is no such function: this page is of another start of the app, so load it again")
        session = self.blocks.state_holder.session_data.get(body.session_hash)
        body.data = self.inputs.check(fn, body.data, session, Path(self.server_app.uploaded_file_dir))
        self._check_waiting(body.session_hash, address_of(request), fn.concurrency_id)

    def _check_waiting(self, session: str, address: str, kind: str) -> None:
        """Raise `Refused` where a session or its address has as many of this kind of work waiting as it may."""
        queue = self.event_queue_per_concurrency_id.get(kind)
        waiting, limits, is_long = queue.queue if queue else (), self.limits, kind == LONG.name
        of_session = sum(event.session_hash == session for event in waiting)
        if of_session >= (limits.waiting_long if is_long else limits.waiting_light):
            raise Refused(f"{of_session} of your requests wait already: let one of them finish, or press Stop")
        of_address = sum(address_of(event.request) == address for event in waiting)
        if of_address >= (limits.waiting_long_per_address if is_long else limits.waiting_light_per_address):
            raise Refused(f"{of_address} requests from your address wait already: try again later")

    def _refuse(self, body: PredictBodyInternal, request: fastapi.Request, sentence: str) -> str:
        """Answer a request that never joins the queue; returns the id of its event."""
        event = Event(body.session_hash, next(iter(self.blocks.fns.values())), request, None)
        if event.session_hash not in self.pending_messages_per_session:
            self.pending_messages_per_session[event.session_hash] = Messages()
        self.pending_event_ids_session.setdefault(event.session_hash, set()).add(event._id)
        self.send_message(
            event, ProcessCompletedMessage(output={"error": escaped(sentence)}, title="Error", success=False)
        )
        return event._id

    def send_message(self, event: Event, event_message: EventMessage) -> None:
        """As gradio's; what fails always says why, in a sentence of bounded length and in one line of the log."""
        if event.session_hash not in self.pending_messages_per_session:  # dropped: an error would end gradio's loop
            return
        if isinstance(event_message, ProcessCompletedMessage) and not event_message.success:
            sentence = cut((event_message.output or {}).get("error") or UNFORESEEN)
            output = SHOWN | (event_message.output or {}) | {"error": sentence}
            if sentence == STOPPED or self.pending_messages_per_session[event.session_hash].says_again(sentence):
                output["visible"] = False
            else:
                self.refusals.write(address_of(event.request), sentence)
            event_message.output = output
        super().send_message(event, event_message)

    async def _drop_unread(self) -> None:
        """Forget the sessions that have not fetched their answers for longest where there are too many."""
        for session in self.pending_messages_per_session.overdue():
            await self.clean_events(session_hash=session)
            self.pending_messages_per_session.pop(session, None)
        known = self.pending_messages_per_session
        if len(self.pending_event_ids_session) > 2 * MAX_SESSIONS:
            for session in [session for session in self.pending_event_ids_session if session not in known]:
                del self.pending_event_ids_session[session]

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """The next event whose client may have another one under way; the queues in turn, as they were last served."""
        running = Counter(_kind(event) for job in self.active_jobs for event in job or ())
        for name, queue in list(self.event_queue_per_concurrency_id.items()):
            if queue.concurrency_limit is not None and queue.current_concurrency >= queue.concurrency_limit:
                continue
            queue.queue[:] = fair_order(queue.queue, running)
            for event in queue.queue:
                kind = _kind(event)
                if running[kind] < (self.limits.running_long if kind[1] else self.limits.running_light):
                    queue.queue.remove(event)
                    event.job = Job(event._id)  # type: ignore[attr-defined]  # lives as long as the event
                    self.event_queue_per_concurrency_id[name] = self.event_queue_per_concurrency_id.pop(name)
                    return [event], False, name
        return None

    async def process_events(self, events: list[Event], batch: bool, begin_time: float, fn: BlockFunction) -> None:
        """As gradio's, but a request that was stopped counts as under way until its thread has really ended."""
        work = asyncio.ensure_future(super().process_events(events, batch, begin_time, fn))
        self._asyncio_tasks.add(work)
        work.add_done_callback(self._asyncio_tasks.discard)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            for event in events:
                event.alive = False
                TURNS.stop(event._id)
            raise

    async def reset_iterators(self, event_id: str) -> None:
        """As gradio's; where the request was stopped meanwhile, that has taken its iterator away already."""
        with suppress(KeyError):
            await super().reset_iterators(event_id)


def fair_order(waiting: list[Event], running: Counter) -> list[Event]:
    """The first of every session, then the second of every session, ..., counting what a session has under way.

    Among the first ones the first of every address comes first: sessions are free.
    """
    of_session, of_address = Counter(running), Counter[tuple[int, str]]()
    order: list[tuple[int, int, int, Event]] = []
    for place, event in enumerate(waiting):
        turn, address = of_session[_kind(event)], address_of(event.request)
        order.append((turn, of_address[turn, address], place, event))
        of_session[_kind(event)] += 1
        of_address[turn, address] += 1
    return [event for *_, event in sorted(order, key=lambda entry: entry[:3])]


def _kind(event: Event) -> tuple[str, bool]:
    """Whose event it is, and whether it is long work."""
    return event.session_hash, event.concurrency_id == LONG.name
