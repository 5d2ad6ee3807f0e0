"""Who may ask the server for how much, in which order, over which routes, and what a refusal says."""

import asyncio
import inspect
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
import torch
from fastapi import HTTPException
from gradio.queueing import Queue
from gradio.server_messages import ProcessCompletedMessage
from gradio_client import Client
from PIL import Image
from served import numbers_in, question_of
from torch import nn

from ldm_explorer.explore.library import open_library
from ldm_explorer.ui.endpoints import ENDPOINTS
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.rooms import ROOMS
from ldm_explorer.ui.server import launch as launching
from ldm_explorer.ui.server.clients import address_of
from ldm_explorer.ui.server.fair_queue import FairQueue, fair_order
from ldm_explorer.ui.server.inputs import InputCheck
from ldm_explorer.ui.server.launch import CannotStart, launch
from ldm_explorer.ui.server.limits import MAX_SESSIONS, UNREAD_SECONDS, Limits
from ldm_explorer.ui.server.messages import Mailboxes, Messages
from ldm_explorer.ui.server.refusals import LOGGED_PER_MINUTE, RefusalLog, Refused
from ldm_explorer.ui.server.routes import MAX_FILES_AT_ONCE, Routes, Uploads
from ldm_explorer.ui.server.turns import GIVE_WAY_SECONDS, TURNS, Job, Stopped, Turns, give_way_between_modules
from ldm_explorer.ui.settings import MAX_PARAMETERS

DENOISING, RECONSTRUCTION = question_of("denoising"), question_of("reconstruction")
DENOISE = "checkpoint=tiny-ldm&class_name=Bag&sampler=ddim&steps=40"
RECONSTRUCT = "checkpoint=tiny-ldm&class_name=Bag"
FETCHED = {"path": "http://127.0.0.1:1/x.png", "meta": {"_type": "gradio.FileData"}}
LIMITS = Limits(waiting_light=6, waiting_long=2, running_long=1, waiting_long_per_address=12, upload_files=3)


@pytest.fixture(scope="module")
def app(ldm_folder, vae_folder):
    page = build_page(open_library(ldm_folder.parents[1], vae_folder.parents[1]))
    launch(page.app, LIMITS, quiet=True, **page.options)
    yield page.app
    page.app.close()


@pytest.fixture(scope="module")
def server(app):
    with httpx.Client(base_url=app.local_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def functions(app) -> dict[str, int]:
    return numbers_in(app.config)


def join(server: httpx.Client, function: int, values: list, session: str = "somebody", **more) -> httpx.Response:
    body = {"fn_index": function, "data": values, "session_hash": session} | more
    return server.post("/gradio_api/queue/join", json=body)


def answers(server: httpx.Client, session: str) -> list[dict]:
    """Every message that waits for a session, until all of its requests are done."""
    lines = server.get("/gradio_api/queue/data", params={"session_hash": session}).text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def completed(server: httpx.Client, session: str) -> list[dict]:
    return [message for message in answers(server, session) if message["msg"] == "process_completed"]


def said(message: dict) -> str:
    """Why something is refused: an error, or what the stage says in the place of its pictures."""
    output = message["output"]
    return output.get("error") or output["data"][0]["sentence"]


def test_what_a_page_asked_a_room_before_ends_when_it_asks_something_else(server, functions):
    for seed in range(5):
        assert join(server, functions[DENOISING], [f"{DENOISE}&steps=50&seed={900 + seed}"], "changing").is_success
    assert join(server, functions[DENOISING], [f"{DENOISE}&steps=2&seed=999"], "changing").is_success
    *ended, last = sorted(completed(server, "changing"), key=lambda message: message["success"])
    assert {message["output"]["error"] for message in ended} == {"stopped"}
    assert len(ended) == 5
    assert "seed=999" in last["output"]["data"][0]["question"]
    join(server, functions[DENOISING], [f"{DENOISE}&steps=250&seed=998"], "leaving")
    join(server, functions[DENOISING], [""], "leaving")
    stopped, nothing = sorted(completed(server, "leaving"), key=lambda message: message["success"])
    assert (stopped["output"]["error"], nothing["success"]) == ("stopped", True)


def test_a_request_can_be_stopped_before_its_handler_runs(app):
    queue, event = app._queue, waiting("early")
    event._id = "of an event"
    held = queue.event_queue_per_concurrency_id
    queue.event_queue_per_concurrency_id = {"long": SimpleNamespace(queue=[event], concurrency_limit=None)}
    try:
        assert queue.get_events() == ([event], False, "long")
    finally:
        queue.event_queue_per_concurrency_id = held
    TURNS.stop(event._id)
    assert Job.of(event._id).stopped
    assert not Job.of("of another").stopped


def test_one_session_cannot_fill_the_queue_and_another_is_served_meanwhile(app, server, functions, monkeypatch):
    monkeypatch.setattr(FairQueue, "_supersede", lambda *_: None)  # as of requests that are no room's question
    for seed in range(12):
        assert join(server, functions[DENOISING], [f"{DENOISE}&seed={seed}"], "greedy").is_success
    others = Client(app.local_url, verbose=False)
    [side] = others.predict(class_name="Bag", api_name="/reconstruction")["show"]["sides"]
    assert "dB" in dict(side["facts"])["PSNR"]
    done = completed(server, "greedy")
    refused = [message["output"]["error"] for message in done if not message["success"]]
    assert len(done) == 12
    assert 12 - 1 - LIMITS.waiting_long - 1 <= len(refused) <= 12 - LIMITS.waiting_long
    assert set(refused) == {"2 of your requests wait already: let one of them finish, or press Stop"}


def test_an_address_has_a_limit_of_its_own_as_sessions_are_free(server, functions):
    with TURNS.turn(Job()):  # nothing is computed meanwhile
        for number in range(26):
            join(server, functions[DENOISING], [f"{DENOISE}&steps=2&seed={100 + number}"], f"one of many {number}")
    errors = [
        message["output"].get("error") for number in range(26) for message in completed(server, f"one of many {number}")
    ]
    refused = [error for error in errors if error]
    assert set(refused) == {"12 requests from your address wait already: try again later"}
    assert len(errors) == 26


def waiting(session: str, address: str = "1.2.3.4", number: int = 0) -> SimpleNamespace:
    request = SimpleNamespace(headers={}, client=SimpleNamespace(host=address))
    return SimpleNamespace(session_hash=session, concurrency_id="long", request=request, number=number)


def test_the_first_of_every_client_goes_before_the_second_of_any():
    events = [waiting(name, number=k) for k, name in enumerate("aaabbc")]
    order = fair_order(events, Counter())
    assert [event.session_hash for event in order] == ["a", "b", "c", "a", "b", "a"]
    assert [event.number for event in order] == [0, 3, 5, 1, 4, 2]
    busy = fair_order(events, Counter({("a", True): 2}))
    assert [event.session_hash for event in busy] == ["b", "c", "b", "a", "a", "a"]
    flood = [waiting(name) for name in "abcd"] + [waiting("e", address="8.8.8.8")]
    assert [event.session_hash for event in fair_order(flood, Counter())] == ["a", "e", "b", "c", "d"]


def test_forwarded_headers_count_on_a_space_alone(monkeypatch):
    headers = {"x-forwarded-for": "1.2.3.4, 8.8.8.8, 10.0.0.7"}
    request = SimpleNamespace(headers=headers, client=SimpleNamespace(host="127.0.0.1"))
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert address_of(request) == "127.0.0.1"
    monkeypatch.setenv("SPACE_ID", "somebody/explorer")
    assert address_of(request) == "8.8.8.8", "the last public one; what stands before it the client may have written"
    request.headers = {"x-forwarded-for": "nonsense"}
    assert address_of(request) == "127.0.0.1"


def test_the_job_that_has_computed_least_goes_first():
    turns, order = Turns(), []
    jobs = {name: Job() for name in "abc"}
    for name, used in (("a", 2.0), ("b", 1.0), ("c", 3.0)):
        jobs[name].used = used

    def work(name: str) -> None:
        with turns.turn(jobs[name]):
            order.append(name)

    with turns.turn(Job()):
        threads = [threading.Thread(target=work, args=name) for name in jobs]
        for thread in threads:
            thread.start()
        while len(turns._waiting) < 3:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == ["b", "a", "c"]


def test_a_network_gives_way_to_light_work_between_two_of_its_modules():
    give_way_between_modules()
    order = []

    class Slow(nn.Module):
        def forward(self, inputs):
            time.sleep(2 * GIVE_WAY_SECONDS)
            order.append("long")
            return inputs

    def light() -> None:
        with TURNS.turn(Job()):
            order.append("light")

    thread = threading.Thread(target=light)
    with TURNS.turn(Job()):
        thread.start()
        while not TURNS._waiting:
            time.sleep(0.001)
        nn.Sequential(*(nn.Sequential(Slow()) for _ in range(3)))(torch.zeros(1))
    thread.join()
    assert order == ["long", "light", "long", "long"]


def test_a_job_that_is_stopped_ends_before_its_next_module_and_leaves_its_turn_to_others():
    give_way_between_modules()
    seen = []

    class Stopping(nn.Module):
        def forward(self, inputs):
            seen.append("module")
            TURNS.stop("this one")
            return inputs

    with pytest.raises(Stopped), TURNS.turn(Job("this one")):
        nn.Sequential(nn.Sequential(Stopping()), nn.Sequential(Stopping()))(torch.zeros(1))
    assert seen == ["module"]
    with TURNS.turn(Job("another")):
        pass


def test_who_gives_up_a_turn_leaves_no_threads_of_openmp_behind():
    """Where more than processors are there, all sleep at once when idle, and small networks take twice as long."""

    def compute() -> tuple[int, int]:
        with TURNS.turn(Job()):
            torch.ones(2_000_000).exp_()
            computing = threads_now()
        for _ in range(100):  # they end by themselves, soon
            if threads_now() < computing:
                break
            time.sleep(0.02)
        return computing, threads_now()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as one:
            computing, afterwards = one.submit(compute).result()
    finally:
        torch.set_num_threads(before)
    assert afterwards == computing - 1


def threads_now() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_job_that_waits_is_stopped_at_once_and_the_one_behind_it_goes_on():
    turns, ended = Turns(), []

    def wait(name: str, used: float) -> None:
        job = Job(name)
        job.used = used
        try:
            with turns.turn(job):
                ended.append(f"{name} ran")
        except Stopped:
            ended.append(f"{name} stopped")

    threads = [threading.Thread(target=wait, args=args) for args in (("first", 1.0), ("second", 2.0))]
    with turns.turn(Job("running")):
        for thread in threads:
            thread.start()
        while len(turns._waiting) < 2:
            time.sleep(0.001)
        turns.stop("first")
        threads[0].join()
        assert ended == ["first stopped"], "while another still has its turn"
    threads[1].join()
    assert ended == ["first stopped", "second ran"]


def test_a_handler_that_fails_gives_its_turn_up():
    with pytest.raises(ZeroDivisionError), TURNS.turn(Job()):
        _ = 1 / 0
    with TURNS.turn(Job()):
        pass


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/api/denoising"),
        ("POST", "/gradio_api/api/answer"),
        ("POST", "/gradio_api/call/v2/alphas_betas"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/vibe-edit"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/gradio_api/proxy=https://example.com"),
        ("GET", "/monitoring/summary"),
        ("GET", "/gradio_api/runs"),
        ("POST", "/login"),
        ("PUT", "/gradio_api/queue/join"),
        ("GET", "/docs"),
    ],
)
def test_every_route_but_those_in_use_is_closed(server, method, path):
    response = server.request(method, path, json={"data": [DENOISE], "fn_index": 4, "session_hash": "x"})
    assert response.status_code in (404, 405)
    assert len(response.json()["detail"]) > 10


def test_no_event_works_outside_the_queue(app):
    assert not app.api_open
    assert all(fn.queue for fn in app.fns.values() if fn.fn is not None)
    assert {fn.concurrency_id for fn in app.fns.values()} == {"light", "long"}


@pytest.mark.parametrize(
    ("room", "wrong", "sentence"),
    [
        (DENOISING, "steps=nan", "Steps is 'nan': give a valid integer"),
        (DENOISING, "steps=1e400", "Steps is '1e400': give a valid integer"),
        (DENOISING, "steps=ten", "Steps is 'ten': give a valid integer"),
        (DENOISING, "steps=True", "Steps is 'True': give a valid integer"),
        (DENOISING, "steps=0", "Steps is '0': give 1 to 250"),
        (DENOISING, "guidance=nan", "Guidance scale is 'nan': give"),
        (DENOISING, "guidance=inf", "Guidance scale is 'inf': give"),
        (DENOISING, "seed=-1", "Seed is '-1': give 0 to 2,147,483,647"),
        (DENOISING, f"seed={10**300}", "Seed is '1000"),
        (DENOISING, "checkpoint=other", "no checkpoint 'other': choose one of tiny-ldm"),
        (DENOISING, f"checkpoint={'x' * 1000}", "Checkpoint is 'xxxx"),
        (DENOISING, "class_name=Teapot", "unknown class 'Teapot'"),
        (DENOISING, f"sampler={'x' * 1000}", "Sampler is 'xxxx"),
        (DENOISING, "sampler=", "Sampler is '': give 'dpm++'"),
        (DENOISING, "b.steps=251", "Steps is '251': give 1 to 250"),
        (DENOISING, "x=1&" * MAX_PARAMETERS, f"the address has more than {MAX_PARAMETERS} parameters: give fewer"),
        (DENOISING, "x" * 5000, "Question is 'checkpoint"),
        (DENOISING, "seed=\ud800", "Question is 'checkpoint"),
        (RECONSTRUCTION, "upload=/etc/passwd", "your image is no file that was uploaded here: give it again"),
        (RECONSTRUCTION, "upload=http://127.0.0.1:1/x.png", "your image is no file that was uploaded here"),
        (RECONSTRUCTION, "upload=UPLOADS/../x.png", "your image is no file that was uploaded here"),
        (RECONSTRUCTION, "upload=UPLOADS/" + "a" * 300, "your image is no file that was uploaded here"),
        (RECONSTRUCTION, "upload=UPLOADS/%00.png", "your image is no file that was uploaded here"),
        (RECONSTRUCTION, "upload=UPLOADS", "your image is no file that was uploaded here"),
        (RECONSTRUCTION, "upload=UPLOADS/%ed%a0%80", "your image is no file that was uploaded here"),
        (RECONSTRUCTION, "number=0", "Test image is '0': give at least 1"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused_by_the_name_of_its_field(app, server, functions, room, wrong, sentence):
    question = f"checkpoint=tiny-ldm&class_name=Bag&{wrong}".replace("UPLOADS", app.app.uploaded_file_dir)
    (answer,) = answers_to(server, functions[room], [question])
    assert sentence in said(answer).replace("&#x27;", "'")
    assert len(said(answer)) < 1200


@pytest.mark.parametrize(
    ("name", "place", "value", "sentence"),
    [
        (DENOISING, 0, None, "Question is empty: give a text of at most 4000 characters"),
        (DENOISING, 0, 5, "Question is 5: give a text of at most 4000 characters"),
        (DENOISING, 0, ["tiny-ldm"], "Question is ['tiny-ldm']: give a text"),
        (RECONSTRUCTION, 0, {"path": "/etc/passwd"}, "Question is {'path': '/etc/passwd'}: give a text"),
        (RECONSTRUCTION, 0, FETCHED, "give a text of at most 4000 characters"),
        ("denoising", "steps", float("nan"), "Steps is nan: give a number"),
        ("denoising", "steps", 1e400, "Steps is inf: give a number"),
        ("denoising", "steps", True, "Steps is 'True': give a valid integer"),
        ("denoising", "steps", 9999, "Steps is '9999': give 1 to 250"),
        ("denoising", "seed", 10**4000, "Seed is"),
        ("denoising", "sampler", "x" * 100_000, "Sampler is 'xxxx"),
        ("denoising", "checkpoint", ["tiny-ldm"], "Checkpoint is ['tiny-ldm']: give a number, or a text"),
        ("denoising", "beside", "\ud800", "beside is '\\ud800'"),
        ("reconstruction", "upload", {"path": "/etc/passwd"}, "Your image is {'path': '/etc/passwd'}: give"),
        ("reconstruction", "upload", FETCHED, "Your image is {'meta'"),
        ("reconstruction", "upload", {"inside": FETCHED}, "give a number, or a text of at most 1000 characters"),
        ("reconstruction", "upload", "text", "your image is no file that was uploaded here: give it again"),
        ("check_formula", "formula", "a" * 5000, "Formula is 'aaaa"),
        ("size_measures", "checkpoints", ["tiny-ldm"] * 1000, "Checkpoints is"),
        ("size_measures", "checkpoints", [[]], "Checkpoints is [[]]: give a list of at most 100 names"),
        ("size_measures", "checkpoints", "tiny-ldm", "give a list of at most 100 names"),
        ("loss", "run", "none", "no run 'none'"),
        ("loss", "run", "", "no run ''"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_the_name_of_its_field(
    app, server, functions, name, place, value, sentence
):
    values = [DENOISE] if place == 0 else values_of(app, functions[name], place, value)
    (answer,) = answers_to(server, functions[name], [value] if place == 0 else values)
    if answer is None:  # JSON that the server does not even read
        return
    assert sentence in answer["output"]["error"].replace("&#x27;", "'")
    assert len(answer["output"]["error"]) < 1000


def values_of(app: gr.Blocks, function: int, parameter: str, value: object) -> list:
    """What an endpoint opens with, and another value for one parameter."""
    signature = inspect.signature(app.fns[function].fn).parameters
    defaults = {name: None if item.default is item.empty else item.default for name, item in signature.items()}
    return list((defaults | {parameter: value}).values())


def answers_to(server: httpx.Client, function: int, values: list) -> list[dict | None]:
    """What comes of one request; None where the server does not even read its JSON, and says so."""
    content = json.dumps({"fn_index": function, "data": values, "session_hash": "bad"})
    response = server.post("/gradio_api/queue/join", content=content, headers={"content-type": "application/json"})
    if not response.is_success:
        assert len(response.json()["detail"]) > 10
        return [None]
    return completed(server, "bad")


def test_raw_nonsense_is_refused_in_a_sentence_and_echoed_by_nobody(server, functions):
    for content in (b"x", b"[" * 100_000, b'{"data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", b"null", b'{"data": 5}'):
        response = server.post("/gradio_api/queue/join", content=content, headers={"content-type": "application/json"})
        assert 400 <= response.status_code < 500
        assert 10 < len(response.text) < 400
    large = server.post("/gradio_api/queue/join", content=b"x" * 300_000)
    assert (large.status_code, large.json()["detail"][:31]) == (413, "the request has 300,000 bytes: ")
    endless = server.post("/gradio_api/queue/join", content=(b"x" * 10_000 for _ in range(40)))
    assert 400 <= endless.status_code < 500
    assert server.post("/gradio_api/call/nothing", json={"data": []}).status_code == 404
    for function in (10_000, -1, functions["denoising"], functions["js_fn"]):
        join(server, function, ["x"], "odd")
    errors = [message["output"]["error"] for message in completed(server, "odd")]
    assert len(errors) == 4
    assert all(errors)


def test_forged_fields_of_a_request_change_nothing(server, functions):
    forged = {"batched": True, "trigger_id": 3, "event_data": {"_data": "x"}, "event_id": "x", "oauth_token": "x"}
    join(server, functions[RECONSTRUCTION], [RECONSTRUCT], "forger", **forged)
    (answer,) = completed(server, "forger")
    assert answer["success"]


def test_a_state_that_a_client_sends_is_not_taken(tmp_path):
    with gr.Blocks() as small:
        state, text = gr.State(0), gr.Textbox(label="Text")
        text.change(lambda *_: None, [state, text])
    check = InputCheck(small).check
    (fn,) = small.fns.values()
    assert check(fn, [{"forged": "state"}, "text"], None, tmp_path) == [None, "text"]


def test_what_fails_without_saying_why_says_one_sentence(app):
    shown = []
    queue = app._queue
    event = SimpleNamespace(
        alive=True, session_hash="nobody", _id="1", request=SimpleNamespace(client=None, headers={})
    )
    queue.pending_messages_per_session["nobody"] = Messages()
    queue.send_message(event, ProcessCompletedMessage(output={"error": None}, success=False))
    shown.append(queue.pending_messages_per_session.pop("nobody").get_nowait())
    assert shown[0].output["error"].startswith("Something went wrong")


def test_refusals_are_a_line_each_and_the_log_is_not_flooded(caplog):
    log = RefusalLog()
    for number in range(10 * LOGGED_PER_MINUTE):
        log.write("1.2.3.4", f"refusal {number}\nand a second line " + "x" * 10_000)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == LOGGED_PER_MINUTE
    assert all("\n" not in line and len(line) < 300 for line in lines)


def test_a_refusal_logs_no_traceback(server, functions, caplog, capfd):
    join(server, functions[RECONSTRUCTION], [f"{RECONSTRUCT}&number=99"], "logged")
    (answer,) = completed(server, "logged")
    assert said(answer) == "image 99 of Bag: there are 10"
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_a_client_whose_state_was_dropped_goes_on(app, server, functions):
    client = Client(app.local_url, verbose=False)
    shown = client.predict(class_name="Bag", steps=4, api_name="/denoising")
    app.state_holder.session_data.clear()
    assert client.predict(class_name="Bag", steps=4, api_name="/denoising") == shown
    for _ in range(2):
        join(server, functions[RECONSTRUCTION], [RECONSTRUCT], "goes on")
        (answer,) = completed(server, "goes on")
        assert answer["success"]
        app.state_holder.session_data.clear()


def test_bounds_that_changed_hold_for_the_session_and_are_the_handlers_without_it(tmp_path):
    with gr.Blocks() as small:
        slider = gr.Slider(0, 1000, label="t")
        slider.change(lambda value: gr.update(maximum=value), slider, slider)
    check = InputCheck(small).check
    (fn,) = small.fns.values()
    assert check(fn, [3000], None, tmp_path) == [3000], "t of a longer schedule, as after another checkpoint"
    session = {slider._id: gr.Slider(0, 2000, label="t", render=False)}
    assert check(fn, [1500], session, tmp_path) == [1500]
    with pytest.raises(Refused, match="t is 3000: give a number from 0 to 2,000"):
        check(fn, [3000], session, tmp_path)


def test_sessions_that_come_once_leave_little_behind(app, server, functions):
    for number in range(MAX_SESSIONS + 50):
        join(server, functions[RECONSTRUCTION], ["checkpoint=gone&class_name=Bag"], f"once {number}")
    assert len(app.state_holder.session_data) <= MAX_SESSIONS
    assert len(app._queue.pending_messages_per_session) <= MAX_SESSIONS + 1
    assert len(app._queue.pending_event_ids_session) <= 2 * MAX_SESSIONS + 1


def test_answers_that_nobody_fetches_are_dropped_the_oldest_first(monkeypatch):
    monkeypatch.setattr("ldm_explorer.ui.server.messages.MAX_UNREAD_BYTES", 5_000)
    boxes = Mailboxes()
    now = time.monotonic()
    for number, name in enumerate("abc"):
        boxes[name] = Messages()
        boxes[name].put_nowait(ProcessCompletedMessage(output={"data": ["x" * 2_000]}, success=True))
        boxes[name].since = now - 10 + number
    assert boxes.overdue() == ["a"]
    boxes["b"].get_nowait()
    assert boxes["b"].bytes == 0
    assert boxes.overdue() == []
    boxes["c"].since = now - UNREAD_SECONDS - 1
    assert boxes.overdue() == ["c"], "who has fetched nothing for so long is gone"


def test_a_client_that_waits_for_its_answer_is_not_dropped_for_others(monkeypatch):
    monkeypatch.setattr("ldm_explorer.ui.server.messages.MAX_UNREAD_BYTES", 5_000)

    async def wait_for_an_answer() -> tuple[list[str], list[str]]:
        boxes = Mailboxes()
        boxes["waits"] = Messages()
        reader = asyncio.create_task(boxes["waits"].get())
        await asyncio.sleep(0)
        boxes["waits"].since -= UNREAD_SECONDS
        boxes["large"] = Messages()
        boxes["large"].put_nowait(ProcessCompletedMessage(output={"data": ["x" * 6_000]}, success=True))
        large = boxes.overdue()
        for number in range(MAX_SESSIONS):
            boxes[f"one of many {number}"] = Messages()
        many = boxes.overdue()
        reader.cancel()
        return large, many

    large, many = asyncio.run(wait_for_an_answer())
    assert large == ["large"]
    assert many == ["large"]


@pytest.mark.parametrize("session", ["", "x" * 1000])
def test_a_session_without_a_name_cannot_stop_the_queue(app, server, functions, session):
    assert join(server, functions[DENOISING], [DENOISE], session).status_code == 400
    called = server.post("/gradio_api/call/checkpoints", json={"data": [], "session_hash": session})
    assert called.status_code in (200, 400)
    nobody = SimpleNamespace(alive=True, session_hash="dropped before", _id="1")
    app._queue.send_message(nobody, ProcessCompletedMessage(output={}, success=True))
    join(server, functions[RECONSTRUCTION], [RECONSTRUCT], "after it")
    assert completed(server, "after it")[0]["success"]


def test_a_request_that_was_stopped_counts_until_its_thread_has_ended(app, monkeypatch):
    async def stop() -> tuple[bool, bool]:
        ended, over = asyncio.Event(), []

        async def work(*_):
            await ended.wait()
            over.append(True)

        monkeypatch.setattr(Queue, "process_events", work)
        event = SimpleNamespace(alive=True)
        task = asyncio.create_task(app._queue.process_events([event], False, 0.0, None))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ended.set()
        await asyncio.sleep(0.01)
        return event.alive, bool(over)

    assert asyncio.run(stop()) == (False, True)


def test_each_question_waits_with_its_kind_whoever_asks_it(app, functions):
    asked = {functions[room.NAME.replace("-", "_")]: room for room in (*ROOMS, *ENDPOINTS)}
    asked |= {functions[question_of(room.NAME)]: room for room in ROOMS}
    assert {number: app.fns[number].concurrency_id for number in asked} == {
        number: room.WORK.name for number, room in asked.items()
    }


def test_uploads_of_an_address_are_bounded_in_number_and_bytes(server, monkeypatch, tmp_path):
    uploads = Uploads(Limits(upload_files=3, upload_bytes=1000))
    assert [uploads.allow("1.2.3.4", 400) for _ in range(3)] == [True, True, False]
    assert [uploads.allow("5.6.7.8", 10) for _ in range(4)] == [True, True, True, False]
    later = time.monotonic() + 3601
    monkeypatch.setattr("ldm_explorer.ui.server.routes.time.monotonic", lambda: later)
    assert uploads.allow("1.2.3.4", 400)
    monkeypatch.undo()
    Image.new("L", (28, 28), 90).save(tmp_path / "x.png")
    statuses = []
    for _ in range(5):
        with (tmp_path / "x.png").open("rb") as file:
            statuses.append(server.post("/gradio_api/upload", files={"files": file}).status_code)
    assert statuses == [200, 200, 200, 429, 429]


def test_one_request_cannot_carry_many_files():
    async def send(count: int) -> list[int]:
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n1\r\n'
        body = part * count
        headers = [(b"content-type", b"multipart/form-data; boundary=x")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/gradio_api/upload",
            "headers": headers,
            "query_string": b"",
        }
        statuses = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def note(message):
            statuses.extend([message["status"]] if "status" in message else [])

        async def answer(_, receive, send):
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        await Routes(answer, Limits(), frozenset())(scope | {"client": ("1.2.3.4", 1)}, receive, note)
        return statuses

    assert asyncio.run(send(MAX_FILES_AT_ONCE)) == [200]
    assert asyncio.run(send(MAX_FILES_AT_ONCE + 1)) == [413]


@pytest.mark.parametrize(("cause", "logged"), [(HTTPException(404), False), (KeyError("x"), True)])
def test_a_stream_whose_session_is_gone_ends_without_a_traceback(cause, logged, caplog):
    async def broken(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("Caught handled exception, but response already started.") from cause

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def forget(_message):
        pass

    scope = {"type": "http", "method": "GET", "path": "/gradio_api/queue/data", "headers": [], "query_string": b""}
    asyncio.run(Routes(broken, Limits(), frozenset())(scope | {"client": ("1.2.3.4", 1)}, receive, forget))
    assert ("a route failed" in caplog.text) is logged


def test_a_page_that_answers_late_is_waited_for(monkeypatch):
    tries = []

    def late(address, **_):
        tries.append(address)
        if len(tries) < 3:
            raise httpx.ConnectError("not yet")
        return httpx.Response(200)

    monkeypatch.setattr(launching.httpx, "get", late)
    monkeypatch.setattr(launching.time, "sleep", lambda _: None)
    launching.wait_until_it_answers("http://127.0.0.1:1")
    assert len(tries) == 3


def test_a_page_that_never_answers_ends_in_one_sentence(monkeypatch):
    monkeypatch.setattr(launching, "START_SECONDS", 0)
    with pytest.raises(CannotStart, match=r"does not answer at http://127\.0\.0\.1:1 within 0 s"):
        launching.wait_until_it_answers("http://127.0.0.1:1")


def test_a_port_that_is_taken_ends_in_one_sentence(app):
    with gr.Blocks() as other:
        gr.Markdown("x")
    with pytest.raises(CannotStart, match=f"port {app.server_port} is taken"):
        launch(other, LIMITS, server_port=app.server_port, quiet=True)


def test_a_host_that_is_not_here_ends_in_one_sentence():
    with pytest.raises(CannotStart, match=r"nothing\.invalid is no address of this machine"):
        launch(gr.Blocks(), LIMITS, server_name="nothing.invalid")
    with pytest.raises(CannotStart, match=r"192\.0\.2\.1 is no address of this machine"):
        launch(gr.Blocks(), LIMITS, server_name="192.0.2.1")


def test_a_request_that_was_stopped_while_it_is_reset_is_no_error():
    """gradio asks for its iterator, waits for a lock, and has it taken away by the stop meanwhile."""

    class Vanishing(dict):
        def __contains__(self, _):
            return True

    queue = FairQueue.__new__(FairQueue)
    queue.server_app = SimpleNamespace(iterators=Vanishing(), lock=asyncio.Lock())
    asyncio.run(queue.reset_iterators("event"))
