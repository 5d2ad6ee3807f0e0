"""The app as its users meet it: over HTTP, and in a real browser."""

import json
from urllib.parse import parse_qs

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from served import numbers_in, question_of

from ldm_explorer.explore.library import open_library
from ldm_explorer.samplers import DEFAULT_NUM_STEPS
from ldm_explorer.schedules import FLOW, SCHEDULES
from ldm_explorer.ui import answers
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.rooms import ROOMS
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import Limits


@pytest.fixture(scope="module")
def app(ldm_folder, vae_folder):
    page = build_page(open_library(ldm_folder.parents[1], vae_folder.parents[1]))
    launch(page.app, Limits(), quiet=True, **page.options)
    yield page.app
    page.app.close()


@pytest.fixture(scope="module")
def address(app):
    return app.local_url


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


def uploaded(client: Client, path) -> str:
    """The path that a file has on the server."""
    with path.open("rb") as file:
        (kept,) = httpx.post(f"{client.src}gradio_api/upload", files={"files": file}).json()
    return kept


def picture_count(show: dict) -> int:
    return sum("src" in picture for frame in show["frames"] for side in frame["sides"] for picture in side)


def test_every_room_answers(client):
    for room in ROOMS:
        said = client.predict(pictures="all", api_name=f"/{room.NAME.replace('-', '_')}")
        assert said["show"] or said["sentences"] or said["plots"] or said["data"], room.NAME
    kept = client.predict(class_name="Bag", number=2, beside="checkpoint=tiny-vae", api_name="/reconstruction")["show"]
    assert ["dB" in dict(side["facts"])["PSNR"] for side in kept["sides"][:2]] == [True, True]
    noised = client.predict(class_name="Bag", pictures="all", api_name="/alphas_betas")
    assert [side["title"] for side in noised["show"]["sides"]] == [*SCHEDULES, FLOW]
    assert picture_count(noised["show"]) >= len(SCHEDULES) * 2 * 7
    assert "Right" in client.predict(formula="z0 = a*z_t - b*v", api_name="/check_formula")["sentence"]


def test_denoising_streams_every_step(address, app, monkeypatch):
    """To the page: a step as soon as it is there, where it may be told so often, and each travels once."""
    monkeypatch.setattr(answers, "EVERY_SECONDS", 0.0)
    body = {"fn_index": numbers_in(app.config)[question_of("denoising")], "session_hash": "streams"}
    body["data"] = ["checkpoint=tiny-ldm&class_name=Bag&steps=6&seed=60"]
    assert httpx.post(f"{address}gradio_api/queue/join", json=body).is_success
    lines = httpx.get(
        f"{address}gradio_api/queue/data", params={"session_hash": "streams"}, timeout=60
    ).text.splitlines()
    messages = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    steps = [message["output"]["data"][0] for message in messages if message["msg"] == "process_generating"]
    assert len(steps) >= 6
    assert [frame["label"][:6] for frame in steps[0]["frames"]] == ["step 1"]
    pictures = [json.dumps(step).count("data:image/png") for step in steps]
    assert max(pictures) <= 2 * pictures[0], "a later step brings none of the earlier ones' pictures again"


@pytest.mark.parametrize("text", ["no picture", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "<svg/>"])
def test_a_file_that_is_no_picture_is_refused_in_a_sentence(client, tmp_path, text):
    (tmp_path / "text.png").write_text(text)
    path = uploaded(client, tmp_path / "text.png")
    with pytest.raises(AppError, match="cannot be read as an image: give one of PNG"):
        client.predict(upload=path, api_name="/reconstruction")


@pytest.mark.parametrize(
    ("endpoint", "parameter", "wanted"),
    [
        ("/reconstruction", "upload", "Your image is .*: give a number, or a text of at most 1000 characters"),
        ("/denoising", "seed", "Seed is .*: give a number"),
    ],
)
def test_the_server_fetches_nothing_for_anybody(client, tmp_path, endpoint, parameter, wanted):
    Image.new("L", (28, 28), 90).save(tmp_path / "mine.png")
    elsewhere = {"path": "http://127.0.0.1:9/picture.png", "meta": {"_type": "gradio.FileData"}}
    for value in (elsewhere, {"inside": elsewhere}, {"path": __file__, "inside": elsewhere}):
        with pytest.raises(AppError, match=wanted):
            client.predict(**{parameter: value}, api_name=endpoint)
    for path in (elsewhere["path"], __file__, str(tmp_path / "mine.png"), "file:///etc/passwd"):
        with pytest.raises(AppError, match="no file that was uploaded here"):
            client.predict(upload=path, api_name="/reconstruction")
    with pytest.raises(AppError, match=r"Your image is .*: give a number, or a text"):
        client.predict(upload=handle_file(tmp_path / "mine.png"), api_name="/reconstruction")


@pytest.mark.parametrize(
    ("endpoint", "values"),
    [
        ("/denoising", {"steps": 100_000}),
        ("/denoising", {"seed": -3}),
        ("/denoising", {"sampler": "nonsense"}),
        ("/denoising", {"checkpoint": "../etc"}),
        ("/denoising", {"checkpoint": "tiny-vae"}),
        ("/denoising", {"class_name": "Teapot"}),
        ("/denoising", {"beside": "checkpoint=../etc"}),
        ("/reconstruction", {"number": 99}),
        ("/reconstruction", {"number": 0.5}),
        ("/size_measures", {"checkpoints": ["../etc"]}),
        ("/loss", {"run": "../etc"}),
    ],
)
def test_values_out_of_range_are_refused_in_a_sentence_and_the_app_stays_up(client, endpoint, values):
    with pytest.raises(AppError) as refusal:
        client.predict(**values, api_name=endpoint)
    assert len(str(refusal.value)) > 20
    assert "Traceback" not in str(refusal.value)
    assert client.predict(class_name="Bag", api_name="/reconstruction")["show"]["frames"]


def test_a_run_that_is_not_there_is_answered_in_a_sentence(client):
    with pytest.raises(AppError, match="no run 'nothing'"):
        client.predict(run="nothing", api_name="/loss")


def test_an_uploaded_image_is_prepared_and_the_user_is_told(client, tmp_path):
    Image.new("RGB", (60, 40), "white").save(tmp_path / "flat.png")
    picture = Image.new("RGB", (60, 40), "white")
    picture.paste((20, 30, 40), (20, 10, 40, 30))
    picture.save(tmp_path / "picture.png")

    def reconstruct(name: str) -> str:
        upload = uploaded(client, tmp_path / name)
        return client.predict(class_name="Bag", upload=upload, api_name="/reconstruction")["show"]["sentence"]

    assert "Your image is used" in reconstruct("picture.png")
    assert "inverted" in reconstruct("picture.png")
    with pytest.raises(AppError, match="flat colour"):
        reconstruct("flat.png")


def test_two_users_at_once_do_not_see_each_other(address):
    first, second = Client(address, verbose=False), Client(address, verbose=False)
    asked = [{"class_name": "Bag", "sampler": "ddim", "steps": 4, "pictures": "all", "seed": seed} for seed in (1, 2)]
    jobs = [user.submit(**values, api_name="/denoising") for user, values in zip((first, second), asked, strict=True)]
    results = [job.result() for job in jobs]
    swapped = [
        user.predict(**values, api_name="/denoising") for user, values in zip((second, first), asked, strict=True)
    ]
    assert results == swapped
    assert results[0]["show"] != results[1]["show"]
    assert [result["chosen"]["seed"] for result in results] == [1, 2]


NO_PICTURE = {"name": "text.png", "mimeType": "image/png", "buffer": b"no picture"}
PICTURES = ".ldm-stage:not(.empty) figure img, .js-plotly-plot .main-svg, .ldm-card"


@pytest.mark.parametrize("width", [1360, 390])
def test_a_walk_through_the_rooms_in_a_real_browser(browser, address, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    requests, asked = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("request", lambda request: asked.append(request.post_data) if "queue/join" in request.url else None)
    page.goto(address)
    page.wait_for_function("() => window.ldm?.state?.started")
    for room in ROOMS:
        page.evaluate("(room) => ldm.open(room)", room.NAME)
        page.locator(PICTURES).locator("visible=true").first.wait_for()
        page.wait_for_function("() => ldm.stages().every((stage) => stage.ldm.done())")
        assert page.evaluate("document.documentElement.scrollWidth") <= width + 1, "the page scrolls sideways"
    page.evaluate("() => ldm.open('denoising')")
    page.wait_for_function("() => document.body.dataset.room === 'denoising' && ldm.stages()[0]?.ldm.done()")
    assert page.evaluate("() => ldm.stages()[0].ldm.count()") == DEFAULT_NUM_STEPS
    asked.clear()
    page.get_by_label("Step", exact=True).locator("visible=true").first.fill("1")
    page.get_by_text(f"step 2 of {DEFAULT_NUM_STEPS}").locator("visible=true").first.wait_for()
    assert asked == [], f"another step is shown without asking the server: {asked}"
    page.evaluate("() => ldm.open('reconstruction')")
    if width < 600:
        page.get_by_role("button", name="Choices").click()
    page.locator(".ldm-rail button.label-wrap:not(.open)").locator("visible=true").first.click()
    page.locator("input[type=file]").first.set_input_files(files=[NO_PICTURE])
    page.get_by_text("cannot be read as an image").first.wait_for()
    page.wait_for_timeout(1500)
    assert page.get_by_text("cannot be read as an image").count() == 1, "said once, whoever needs the picture"
    assert "upload" not in parse_qs(page.url.partition("?")[2]), "it is in no link"
    page.evaluate("() => ldm.open('denoising')")
    page.wait_for_function("() => document.body.dataset.room === 'denoising'")
    page.locator(".ldm-rail").get_by_label("Steps").locator("visible=true").first.fill("9999")
    page.get_by_text("Steps is '9999': give 1 to 250").locator("visible=true").first.wait_for()
    assert errors == []
    outside = [url for url in requests if not url.startswith((address, "data:", "blob:"))]
    assert outside == [], "something was fetched from outside"
    page.close()
