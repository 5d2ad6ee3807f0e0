"""The endpoints for programs: what they answer, what they refuse, and what docs/api.md shows."""

import json
import re
from types import SimpleNamespace

import pytest
from commands import REPO
from gradio_client import Client
from gradio_client.exceptions import AppError
from starlette.requests import Request

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.explore.diagnosis import diagnose_checkpoint
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.ui import command
from ldm_explorer.ui.answers import answers, size_of
from ldm_explorer.ui.api import as_json, room_answer
from ldm_explorer.ui.endpoints import ENDPOINTS
from ldm_explorer.ui.html import html
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.parts import parts_of
from ldm_explorer.ui.results import Results
from ldm_explorer.ui.rooms import ROOMS, denoising
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import Limits
from ldm_explorer.ui.server.mcp import contents
from ldm_explorer.ui.server.routes import Routes
from ldm_explorer.ui.server.turns import Job
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.settings import OF_B

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
IN_DOCS = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def library(ldm_folder) -> Library:
    return open_library(ldm_folder.parents[1])


@pytest.fixture(scope="module")
def page(library):
    return build_page(library)


@pytest.fixture(scope="module")
def address(page):
    yield launch(page.app, Limits(), quiet=True, **page.options)
    page.app.close()


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


def last_show(room, library: Library, question: str) -> dict:
    *_, (show, *_others) = room.answer(library, *room.SETTINGS.read(question))
    return show


def test_what_the_document_shows_runs(address, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (REPO / "docs" / "api.md").read_text()
    scope: dict = {}
    for block in BLOCK.findall(text):
        exec(compile(block.replace(IN_DOCS, address.rstrip("/")), "docs/api.md", "exec"), scope)
    assert (tmp_path / "last.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "tiny-ldm ldm 8x8x4" in printed
    assert "Wrong: the coefficient of z0" in printed
    assert "Steps is '1000'" in printed


def test_every_room_and_every_other_question_has_an_endpoint_with_its_settings(client):
    known = client.view_api(return_format="dict")["named_endpoints"]
    asked = [asked for room in ROOMS for asked in (room, *parts_of(room))]
    assert set(known) == {f"/{room.NAME.replace('-', '_')}" for room in (*asked, *ENDPOINTS)}
    for room in asked:
        of_endpoint = known[f"/{room.NAME.replace('-', '_')}"]["parameters"]
        names = {parameter["parameter_name"] for parameter in of_endpoint}
        assert names == {*room.SETTINGS.model_fields, "beside", "pictures"}
        assert all(parameter["parameter_has_default"] for parameter in of_endpoint)


def test_a_room_answers_what_the_page_shows(client, library):
    said = client.predict(class_name="Bag", steps=3, beside="steps=2", pictures="all", api_name="/denoising")
    shown = last_show(denoising, library, f"checkpoint=tiny-ldm&class_name=Bag&steps=3&{OF_B}steps=2")
    assert [frame["label"] for frame in said["show"]["frames"]] == [frame["label"] for frame in shown["frames"]]
    sources = [[[p.get("src") for p in side] for side in frame["sides"]] for frame in said["show"]["frames"]]
    assert sources == [[[p.get("src") for p in side] for side in frame["sides"]] for frame in shown["frames"]]
    assert said["beside"] == said["chosen"] | {"steps": 2}
    assert [side["title"] for side in said["show"]["sides"]] == [side["title"] for side in shown["sides"]]
    assert "<" not in re.sub(r'"data:[^"]*"', "", json.dumps(said))


def test_the_page_and_an_endpoint_find_what_the_other_was_answered(library):
    asked = []
    room = SimpleNamespace(
        WORK=LIGHT,
        NAME="counted",
        SETTINGS=denoising.SETTINGS,
        QUESTION="?",
        answer=lambda *given: iter([(asked.append(given),)]),
    )
    results = Results(size_of)
    room_answer(room, library, results)(checkpoint="tiny-ldm", class_name="Bag", steps=4.0, beside="seed=2&steps=7")
    list(answers(room, library, results, "checkpoint=tiny-ldm&class_name=Bag&steps=4&b.seed=2&b.steps=7", Job()))
    assert len(asked) == 1


def test_pictures_come_as_they_are_asked_for(client):
    def with_pictures(**pictures) -> list[bool]:
        frames = client.predict(steps=3, **pictures, api_name="/denoising")["show"]["frames"]
        return ["src" in frame["sides"][0][0] for frame in frames]

    assert with_pictures(pictures="all") == [True, True, True]
    assert with_pictures() == [False, False, True]
    assert with_pictures(pictures="none") == [False, False, False]


def test_the_other_questions_are_answered_as_the_library_answers_them(client, library, ldm_folder):
    assert client.predict(api_name="/diagnose") == json.loads(
        json.dumps(list(diagnose_checkpoint(library.get("tiny-ldm")))[-1].as_json())
    )
    right = client.predict(formula="a*z_t - b*v", quantity="z0", api_name="/check_formula")
    assert (right["right"], right["counter_example"]) == (True, None)
    wrong = client.predict(formula="z0 = a*z_t + b*v", api_name="/check_formula")
    assert wrong["counter_example"]["given"] != wrong["counter_example"]["needed"]
    [measures] = client.predict(api_name="/size_measures")
    assert (measures["name"], measures["latent"]) == ("tiny-ldm", "8x8x4")
    loss = client.predict(run="tiny-ldm", api_name="/loss")
    log = [json.loads(line) for line in (ldm_folder / "train_log.jsonl").read_text().splitlines()]
    assert loss["curves"]["validation_loss"]["values"] == [line["validation_loss"] for line in log]
    assert client.predict(api_name="/runs") == [{"name": "tiny-ldm", "finished": True}]


def test_a_loss_comes_with_its_floors(run_with_losses):
    checkpoint = run_with_losses([0.9, 0.5])
    loss = next(endpoint for endpoint in ENDPOINTS if endpoint.NAME == "loss")
    library = Library({"run": read_checkpoint(checkpoint.folder)}, (), {})
    said = loss.ask(library, loss.SETTINGS(run="run"))
    assert said["mean_floors"] == read_loss(checkpoint).mean_floors
    assert {"zero", "white", "gaussian"} < said["mean_floors"].keys()
    assert said["curves"]["loss"]["values"] == (0.9, 0.5)


FILE = {"path": "http://127.0.0.1:9/picture.png", "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    ("endpoint", "given", "sentence"),
    [
        ("/denoising", {"steps": 1000}, "Steps is '1000'"),
        ("/denoising", {"steps": "many"}, "Steps is 'many'"),
        ("/denoising", {"beside": "steps=0"}, "Steps is '0'"),
        ("/denoising", {"beside": 3}, "beside names '3'"),
        ("/denoising", {"beside": "stepz=5&steps=4"}, "beside names 'stepz'"),
        ("/denoising", {"beside": "steps=4", "steps": 0}, "Steps is '0'"),
        ("/denoising", {"sampler": "eulr"}, "Sampler is 'eulr'"),
        ("/denoising", {"checkpoint": "../etc"}, "no checkpoint '../etc'"),
        ("/denoising", {"pictures": "some"}, "give all, last or none"),
        ("/denoising", {"seed": FILE}, "Seed is .*: give a number, or a text"),
        ("/denoising", {"class_name": [FILE]}, "Class is .*: give a number, or a text"),
        ("/reconstruction", {"upload": __file__}, "no file that was uploaded here"),
        ("/size_measures", {"checkpoints": 0}, "Checkpoints is 0: give a list of at most 100 names"),
        ("/size_measures", {"checkpoints": [FILE]}, "give a list of at most 100 names"),
        ("/few_evaluations_measures", {}, "run train/evaluate.py --few-evaluations"),
        ("/loss", {"run": "nothing"}, "no run 'nothing'"),
        ("/check_formula", {"formula": "z0 = __import__('os')"}, "."),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_one_sentence(client, endpoint, given, sentence):
    with pytest.raises(AppError, match=sentence) as refusal:
        client.predict(**given, api_name=endpoint)
    assert "Traceback" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_made_for_the_page_is_told_in_words_and_numbers():
    figure = SimpleNamespace(
        to_plotly_json=lambda: {
            "layout": {"title": {"text": "<b>loss</b>"}, "xaxis": {"title": {"text": "step"}}},
            "data": [{"name": "white", "x": (0, 1), "y": [2.5, 1.5], "line": {"color": "red"}}],
        }
    )
    said = as_json(
        (
            html("<p>{} lies <b>below</b>.</p><pre>{}</pre>", "a < b", "for t in x:\n    y"),
            figure,
            {"__type__": "update", "value": "# More"},
            "",
        ),
        "all",
    )
    assert said["sentences"] == ["a < b lies below.\nfor t in x:\n    y", "# More"]
    assert said["plots"] == [
        {"title": "loss", "x_title": "step", "y_title": "", "curves": [{"name": "white", "x": [0, 1], "y": [2.5, 1.5]}]}
    ]
    assert (said["show"], said["data"]) == (None, [])


def test_where_an_answer_leaves_a_value_as_it_was_the_one_before_counts(library):
    skip = {"__type__": "update"}
    room = SimpleNamespace(
        WORK=LIGHT,
        NAME="skips",
        SETTINGS=denoising.SETTINGS,
        QUESTION="?",
        answer=lambda *_: iter([("first", "old"), (skip, "new")]),
    )
    said = room_answer(room, library, Results(size_of))(checkpoint="tiny-ldm", class_name="Bag")
    assert said["sentences"] == ["first", "new"]


def test_tools_are_served_only_where_the_app_was_started_with_them():
    def is_open(path: str, method: str, mcp: bool) -> bool:
        scope = {"type": "http", "path": path, "method": method, "headers": [], "query_string": b""}
        return Routes(None, Limits(), frozenset(), mcp)._refusal(Request(scope)) is None

    for method in ("GET", "POST", "DELETE"):
        assert is_open("/gradio_api/mcp/", method, mcp=True)
        assert not is_open("/gradio_api/mcp/", method, mcp=False)
        assert not is_open("/gradio_api/mcp/messages/", method, mcp=True)


def test_tools_have_the_names_of_the_endpoints(page):
    """Gradio takes a tool's name from the function, and an endpoint's from `api_name`."""
    public = [fn for fn in page.app.fns.values() if fn.api_visibility == "public"]
    assert [fn.fn.__name__ for fn in public] == [fn.api_name for fn in public]
    assert all(fn.fn.__doc__ for fn in public)


def test_a_tool_answers_json_and_its_pictures():
    types = SimpleNamespace(TextContent=lambda **part: part, ImageContent=lambda **part: part)
    text, picture = contents([{"frames": [{"src": "data:image/png;base64,AAAA"}], "none": None}], types)
    assert json.loads(text["text"]) == {"frames": [{"src": "picture 1"}], "none": None}
    assert (picture["data"], picture["mimeType"]) == ("AAAA", "image/png")


def test_where_the_package_for_tools_is_missing_the_command_says_so(monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match=r"error: --mcp needs the package mcp.*pip install 'gradio\[mcp\]'"):
        command.main(["--mcp"])
