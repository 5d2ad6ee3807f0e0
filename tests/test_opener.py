"""Opening a folder or a Hub id from the page: over HTTP, for whom it may be, one at a time, stopped at any moment."""

import base64
import io
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from served import numbers_in

from ldm_explorer import hub
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.opened import MAX_BYTES_EACH, MayOpen
from ldm_explorer.ui import admission, opener
from ldm_explorer.ui.command import what_may_be_opened
from ldm_explorer.ui.opener import WAITS, opening
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.server.clients import on_this_machine
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import Limits
from ldm_explorer.ui.server.turns import Job, Stopped


@pytest.fixture(scope="module")
def shown(ldm_folder, vae_folder) -> Library:
    library = open_library(ldm_folder.parents[1], vae_folder.parents[1])
    return replace(library, may_open=MayOpen(own=True, hub_for_all=True))


@pytest.fixture(scope="module")
def app(shown):
    page = build_page(shown)
    launch(page.app, Limits(), quiet=True, **page.options)
    yield page.app
    page.app.close()


def asked_over_http(app, reference: str, **headers: str) -> dict:
    """The last answer to a reference, as the page asks."""
    body = {"fn_index": numbers_in(app.config)["opened"], "data": [reference], "session_hash": f"{headers}{reference}"}
    body["session_hash"] = str(abs(hash(body["session_hash"])))
    with httpx.Client(base_url=app.local_url, timeout=60) as server:
        server.post("/gradio_api/queue/join", json=body, headers=headers)
        lines = server.get("/gradio_api/queue/data", params={"session_hash": body["session_hash"]}).text.splitlines()
    messages = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    said = [message["output"]["data"][0] for message in messages if message["msg"] == "process_generating"]
    return said[-1]


def asked(library: Library, reference: str, monkeypatch, here: bool = True) -> dict:
    """The same without a server."""
    monkeypatch.setattr(admission, "on_this_machine", lambda _: here)
    *_, last = opening(library)(reference)
    return last


def test_a_folder_becomes_a_checkpoint_for_every_room_and_the_address_finds_it_again(app, shown, color_folder):
    answer = asked_over_http(app, f"{color_folder}/../{color_folder.name}")
    assert answer["reference"] == str(color_folder)
    assert answer["label"].startswith(f"{color_folder.name}: denoiser")
    classes = answer["images"]["classes"]
    assert [row["name"] for row in classes] == list(shown.get(str(color_folder)).spec.class_names)
    picture = Image.open(io.BytesIO(base64.b64decode(answer["images"]["picture"])))
    assert picture.width == answer["images"]["columns"] * shown.get(str(color_folder)).spec.side
    client = Client(app.local_url, verbose=False)
    chosen = {"checkpoint": str(color_folder), "class_name": classes[0]["name"]}
    kept = client.predict(**chosen, api_name="/reconstruction")["show"]
    assert kept["sides"][0]["title"].startswith(color_folder.name)
    walk = client.predict(**chosen, steps=2, api_name="/denoising")["show"]
    assert len(walk["frames"]) == 2
    apart = client.predict(steps=2, beside=f"checkpoint={color_folder}", api_name="/denoising")["show"]
    assert "trained on other images" in apart["sentence"]
    said = client.predict(run=str(color_folder), api_name="/training")["show"]["sentence"]
    assert f"{color_folder.name} has no train_log.jsonl" in said
    assert "can be read below: “Read the loss of any training”" in said
    for name in ("/alphas_betas", "/velocity", "/latent_size"):
        options = {} if name == "/latent_size" else {"class_name": classes[0]["name"]}
        assert client.predict(checkpoint=str(color_folder), **options, api_name=name)["plots"]
    assert asked_over_http(app, str(color_folder))["reference"] == str(color_folder)


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-For": "8.8.8.8"}, {"Origin": "https://example.com"}, {"Host": "explorer.example.com"}],
    ids=["a proxy", "a page of another site", "a name that leads here"],
)
def test_who_does_not_sit_here_gets_a_sentence_and_sees_nothing_of_what_is_open(app, shown, color_folder, headers):
    asked_over_http(app, str(color_folder))
    assert "who sits at the server" in asked_over_http(app, str(color_folder), **headers)["refused"]
    assert "who sits at the server" in asked_over_http(app, shown.get(str(color_folder)).name, **headers)["refused"]
    client = Client(app.local_url, verbose=False, headers=headers)
    for room in ("/reconstruction", "/diagnose"):
        with pytest.raises(AppError, match="who sits at the server"):
            client.predict(checkpoint=str(color_folder), api_name=room)
    with pytest.raises(AppError, match="who sits at the server"):
        client.predict(run=str(color_folder), api_name="/training")


@pytest.mark.parametrize(
    ("host", "headers", "here"),
    [
        ("127.0.0.1", {"host": "localhost:7860"}, True),
        ("::1", {"host": "[::1]:7860", "origin": "http://[::1]:7860"}, True),
        ("::ffff:127.0.0.1", {"host": "127.0.0.1:7860"}, True),
        ("192.168.0.7", {"host": "127.0.0.1:7860"}, False),
        ("127.0.0.1", {"host": "localhost", "origin": "null"}, False),
        ("127.0.0.1", {"host": "localhost", "origin": "http://localhost.example.com"}, False),
        ("127.0.0.1", {"host": "["}, False),
        ("127.0.0.1", {}, False),
        ("127.0.0.1", {"host": "localhost", "via": "1.1 proxy"}, False),
    ],
)
def test_who_sits_at_this_machine(host, headers, here, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    request = SimpleNamespace(headers=headers, client=SimpleNamespace(host=host))
    assert on_this_machine(request) is here
    monkeypatch.setenv("SPACE_ID", "somebody/explorer")
    assert not on_this_machine(request)
    assert not on_this_machine(None)


@pytest.mark.parametrize(
    ("given", "share", "space", "own", "for_all"),
    [
        (None, False, False, True, False),
        ("own", False, False, True, False),
        ("hub", False, False, True, True),
        ("nothing", False, False, False, False),
        (None, True, False, False, False),
        ("own", True, False, False, False),
        (None, False, True, False, False),
        ("own", False, True, False, False),
        ("hub", False, True, False, True),
    ],
)
def test_what_the_command_lets_be_opened(given, share, space, own, for_all, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/explorer" if space else "")
    assert what_may_be_opened(given, share) == MayOpen(own, for_all)


def test_where_nothing_may_be_opened_there_is_no_button(app, shown):
    without = build_page(replace(shown, may_open=MayOpen())).app
    assert any(block.elem_id == "ldm-open" for block in app.blocks.values())
    assert not any(block.elem_id == "ldm-open" for block in without.blocks.values())


def test_what_is_no_model_is_one_sentence(shown, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for reference in (tmp_path / "empty", tmp_path / "file", "../../etc", "/tmp/\0x", "hf:a b/c", "hf:", "x" * 400):
        refused = asked(shown, str(reference), monkeypatch)["refused"]
        assert refused.endswith(".")
        assert "\n" not in refused
        assert "Error" not in refused


def test_visitors_have_the_hub_alone_with_smaller_models(shown, ldm_folder, monkeypatch):
    seen = {}

    def open_source(source, **options):
        seen.update(options, source=source)
        return shown.get("tiny-ldm")

    monkeypatch.setattr(opener, "open_source", open_source)
    answer = asked(shown, "hf:owner/name", monkeypatch, here=False)
    assert answer["reference"] == "hf:owner/name"
    assert seen["max_bytes"] == MAX_BYTES_EACH
    asked(shown, f"hf:owner/name?images={ldm_folder}", monkeypatch)
    assert (seen["source"], seen["images"]) == ("hf:owner/name", str(ldm_folder))
    assert seen["max_bytes"] == hub.MAX_BYTES


def test_one_is_opened_at_a_time_and_an_end_is_an_end(shown, monkeypatch):
    begun, goes_on, stopped = threading.Event(), threading.Event(), threading.Event()

    def open_source(_source, told, **_options):
        begun.set()
        try:
            while not goes_on.wait(0.01):
                told("1 of 2 MB are here.")
        except Stopped:
            stopped.set()
            raise
        return shown.get("tiny-ldm")

    monkeypatch.setattr(opener, "open_source", open_source)
    monkeypatch.setattr(opener, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(admission, "on_this_machine", lambda _: True)
    first = opening(shown)("hf:owner/first")
    job = Job()
    monkeypatch.setattr(Job, "of", classmethod(lambda _cls, _event: job))
    assert next(first)["told"] == "1 of 2 MB are here."
    other = Job()
    monkeypatch.setattr(Job, "of", classmethod(lambda _cls, _event: other))
    second = opening(shown)("hf:owner/second")
    assert next(second)["told"] == WAITS
    job.stopped = True
    with pytest.raises(Exception, match="stopped"):
        list(first)
    assert stopped.wait(5)
    goes_on.set()
    *_, last = second
    assert last["reference"] == "hf:owner/second"


def test_a_download_is_told_of_piece_by_piece_and_ends_where_that_raises(monkeypatch, tmp_path):
    told = []

    def snapshot_download(_repo, tqdm_class=None, **_options):
        if tqdm_class is not None:
            for desc in ("Downloading bytes", "Reconstructing (incomplete total...)"):
                bar = tqdm_class(total=0, unit="B", unit_scale=True, desc=desc)
                bar.update(3_000_000)
            list(tqdm_class(["a file"], desc="Fetching files"))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    sizes = {"model.safetensors": 4_000_000}
    hub._download("owner/name", None, sizes, sizes, 5_000_000, told.append)
    assert told[-1] == "owner/name: 3.0 of 4.0 MB came."

    def stop(_text):
        raise Stopped

    with pytest.raises(Stopped):
        hub._download("owner/name", None, sizes, sizes, 5_000_000, stop)
