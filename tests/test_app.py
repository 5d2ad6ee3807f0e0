"""The app as its users meet it: over HTTP, and in a real browser."""

import json

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from ldm_explorer.explore.library import open_library
from ldm_explorer.samplers import DEFAULT_NUM_STEPS
from ldm_explorer.schedules import SCHEDULES
from ldm_explorer.ui import CSS, TABS, THEME, build_app, denoising, velocity
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import Limits


@pytest.fixture(scope="module")
def address(ldm_folder, vae_folder):
    app = build_app(open_library(ldm_folder.parents[1], vae_folder.parents[1]))
    yield launch(app, Limits(), quiet=True, theme=THEME, css=CSS)
    app.close()


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


def test_every_endpoint_answers(client):
    assert "dB" in client.predict("tiny-ldm", "Bag", 2, None, "tiny-vae", api_name="/reconstruct")
    assert "terminal SNR" in client.predict(1000, 1e-4, 0.02, api_name="/plot_schedules")[0]
    noised = client.predict("tiny-ldm", "Bag", 1, None, 0, 1000, 1e-4, 0.02, api_name="/noise_image")
    assert noised.count("<img") == len(SCHEDULES) * 2 * 7
    assert "<table" in client.predict("tiny-ldm", ["tiny-ldm"], api_name="/compare_sizes")[4]
    pictures = client.predict("tiny-ldm", "Bag", 1, None, 0, ["tiny-ldm"], api_name="/compare_pictures")
    assert pictures.count("<img") == 4
    strips = client.predict("tiny-ldm", "Bag", 1, None, "Dress", 2, ["tiny-ldm"], api_name="/interpolate_images")
    assert strips.count("<img") == 2
    assert "nats per value" in client.predict("tiny-ldm", "Bag", 1, None, ["tiny-ldm"], api_name="/map_kl")
    assert client.predict(["tiny-ldm"], api_name="/size_figures").startswith("checkpoint,side,channels,values")
    assert "After 4 of 5" in client.predict("tiny-ldm", 3, api_name="/show_training")
    shown = client.predict("tiny-ldm", "Bag", 1, None, 0, 500, 100, api_name="/show_velocity")
    assert shown[-2].count("<img") == 5
    assert "Right" in client.predict("tiny-ldm", "z0", "a*z_t - b*v", api_name="/check_formula")
    assert "without floors" in client.predict("tiny-ldm", "none", api_name="/plot_loss")[0]
    assert "After 4 steps" in client.predict("tiny-ldm", "none", 3, api_name="/show_moment")[1]


def test_denoising_streams_every_step(client):
    job = client.submit("tiny-ldm", 0, "Bag", "dpm++", 6, 1, 1, api_name="/denoise")
    job.result()
    streamed = [output[0] for output in job.outputs()]
    assert len(streamed) == 6
    assert streamed[-1].startswith(streamed[2])


@pytest.mark.parametrize("text", ["no picture", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "<svg/>"])
def test_a_file_that_is_no_picture_is_refused_in_a_sentence(client, tmp_path, text):
    (tmp_path / "text.png").write_text(text)
    with pytest.raises(AppError, match="cannot be read as an image: give one of PNG"):
        client.predict("tiny-ldm", "Bag", 1, handle_file(tmp_path / "text.png"), "tiny-vae", api_name="/reconstruct")


@pytest.mark.parametrize(
    ("endpoint", "before", "after", "wanted"),
    [
        ("/reconstruct", ("tiny-ldm", "Bag", 1), ("tiny-vae",), "give a file that was uploaded"),
        ("/denoise", ("tiny-ldm",), ("Bag", "ddim", 1, 1, 1), "Seed is .*: give a number"),
    ],
)
def test_the_server_fetches_nothing_for_anybody(client, endpoint, before, after, wanted):
    elsewhere = {"path": "http://127.0.0.1:9/picture.png", "meta": {"_type": "gradio.FileData"}}
    for value in (elsewhere, {"inside": elsewhere}, {"path": __file__, "inside": elsewhere}):
        with pytest.raises(AppError, match=wanted):
            client.predict(*before, value, *after, api_name=endpoint)


@pytest.mark.parametrize(
    ("endpoint", "inputs"),
    [
        ("/denoise", ("tiny-ldm", 0, "Bag", "dpm++", 100_000, 1, 1)),
        ("/denoise", ("tiny-ldm", -3, "Bag", "dpm++", 5, 1, 1)),
        ("/denoise", ("tiny-ldm", 0, "Bag", "nonsense", 5, 1, 1)),
        ("/denoise", ("../etc", 0, "Bag", "dpm++", 5, 1, 1)),
        ("/plot_schedules", (1000, 0.02, 1e-4)),
        ("/reconstruct", ("tiny-ldm", "Bag", 99, None, "tiny-vae")),
        ("/denoise", ("tiny-ldm", None, "Bag", "dpm++", 5, 1, 1)),
        ("/compare_sizes", ("tiny-ldm", [])),
        ("/size_figures", (["../etc"],)),
        ("/show_moment", ("tiny-ldm", "none", None)),
    ],
)
def test_values_out_of_range_are_refused_in_a_sentence_and_the_app_stays_up(client, endpoint, inputs):
    with pytest.raises(AppError) as refusal:
        client.predict(*inputs, api_name=endpoint)
    assert len(str(refusal.value)) > 20
    assert "Traceback" not in str(refusal.value)
    assert "terminal SNR" in client.predict(1000, 1e-4, 0.02, api_name="/plot_schedules")[0]


def test_a_run_that_is_not_there_is_answered_in_a_sentence(client):
    assert "no run" in client.predict("nothing", "none", api_name="/plot_loss")[0]


def test_an_uploaded_image_is_prepared_and_the_user_is_told(client, tmp_path):
    Image.new("RGB", (60, 40), "white").save(tmp_path / "flat.png")
    picture = Image.new("RGB", (60, 40), "white")
    picture.paste((20, 30, 40), (20, 10, 40, 30))
    picture.save(tmp_path / "picture.png")

    def reconstruct(name: str) -> str:
        upload = handle_file(str(tmp_path / name))
        return client.predict("tiny-ldm", "Bag", 1, upload, "tiny-vae", api_name="/reconstruct")

    assert "inverted" in reconstruct("picture.png")
    with pytest.raises(AppError, match="flat colour"):
        reconstruct("flat.png")


def test_two_users_at_once_do_not_see_each_other(address):
    first, second = Client(address, verbose=False), Client(address, verbose=False)
    jobs = [
        user.submit("tiny-ldm", seed, "Bag", "ddim", 4, 1, 1, api_name="/denoise")
        for user, seed in ((first, 1), (second, 2))
    ]
    results = [job.result()[0] for job in jobs]
    alone = [
        user.predict("tiny-ldm", seed, "Bag", "ddim", 4, 1, 1, api_name="/denoise")[0]
        for user, seed in ((first, 1), (second, 2))
    ]
    assert results == alone
    assert results[0] != results[1]


MOMENT = "Moment to look at"
NO_PICTURE = {"name": "text.png", "mimeType": "image/png", "buffer": b"no picture"}


@pytest.mark.parametrize("width", [1360, 390])
def test_a_walk_through_the_tabs_in_a_real_browser(browser, address, width):
    from screenshots import open_tab

    page = browser.new_page(viewport={"width": width, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    requests, asked = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("request", lambda request: asked.append(request.post_data) if "queue/join" in request.url else None)
    page.goto(address)
    for tab in TABS:
        open_tab(page, tab.TITLE)
        page.locator("figure img:visible").first.wait_for()
    open_tab(page, velocity.TITLE)
    page.get_by_placeholder("eps = ...").fill("z_s = a_s*z0 + b_s*eps")
    page.get_by_role("button", name="Check").click()
    page.get_by_text("Right: identical by algebra").wait_for()
    open_tab(page, denoising.TITLE)
    page.get_by_text(f"step {DEFAULT_NUM_STEPS} of {DEFAULT_NUM_STEPS}").first.wait_for()
    sliders = {part["id"] for part in page.evaluate("gradio_config.components") if part["props"].get("label") == MOMENT}
    page.get_by_label(MOMENT).first.fill("2")
    page.get_by_label(MOMENT).first.press("Enter")
    page.get_by_text(f"step 2 of {DEFAULT_NUM_STEPS}").first.wait_for()
    assert page.get_by_text(f"step {DEFAULT_NUM_STEPS} of {DEFAULT_NUM_STEPS}").first.is_hidden()
    by_slider = [request for request in asked if json.loads(request)["trigger_id"] in sliders]  # others come late
    assert sliders, f"no slider is labelled {MOMENT!r}"
    assert by_slider == [], f"another step is shown without asking the server: {by_slider}"
    page.get_by_role("button", name="Generate").click()
    page.get_by_text(f"step {DEFAULT_NUM_STEPS} of {DEFAULT_NUM_STEPS}").first.wait_for()
    page.get_by_text("Use your own image").click()
    page.locator("input[type=file]").first.set_input_files(files=[NO_PICTURE])
    page.get_by_text("cannot be read as an image").first.wait_for()
    page.wait_for_timeout(1500)
    assert page.get_by_text("cannot be read as an image").count() == 1, "said once, whoever needs the picture"
    page.get_by_label("Steps").locator("visible=true").first.fill("9999")
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("Steps is 9999: give a number from 1 to 250").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width + 1, "the page scrolls sideways"
    assert errors == []
    outside = [url for url in requests if not url.startswith((address, "data:", "blob:"))]
    assert outside == [], "something was fetched from outside"
    page.close()
