"""The tools under the stage and the lessons above it: the files that they make, and both in a real browser."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_explorer.explore.library import open_library
from ldm_explorer.ui import animation
from ldm_explorer.ui.animation import ENLARGED, GAP, LINE, animate
from ldm_explorer.ui.answers import size_of
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.results import Results
from ldm_explorer.ui.rooms import denoising
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import Limits
from ldm_explorer.ui.server.turns import Job
from ldm_explorer.ui.stage import Frame, Histogram, Shot, Show, Side
from ldm_explorer.ui.tools import _buttons, animation_of, script_for

QUESTION = "checkpoint=tiny-ldm&class_name=Bag&steps=3&seed=2"


@pytest.fixture(scope="module")
def library(ldm_folder):
    return open_library(ldm_folder.parents[1])


def show_of(images: list[torch.Tensor], sides: int = 1) -> dict:
    show = Show("key", "Step", len(images), [Side(f"side {number}") for number in range(sides)])
    for number, image in enumerate(images):
        pictures = [Shot(image, "large"), Shot(image, "small", size="small"), Histogram(image.float(), "values")]
        show.add(Frame(f"step {number}", number, [pictures] * sides))
    return show.end()


def frames_of(gif: bytes) -> tuple[Image.Image, list[np.ndarray]]:
    image, frames = Image.open(io.BytesIO(gif)), []
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")))
    return image, frames


def test_a_gif_has_every_frame_once_begins_again_and_keeps_every_grey():
    images = list(torch.arange(2 * 256).remainder(256).view(2, 1, 16, 16).to(torch.uint8))
    gif, frames = frames_of(animate(show_of([*images, images[0]], sides=2)))
    assert (gif.n_frames, gif.info["loop"]) == (3, 0)
    enlarged = np.kron(images[1][0].numpy(), np.ones((ENLARGED, ENLARGED), dtype=np.uint8))
    for left in (GAP, 2 * GAP + enlarged.shape[1]):
        assert (frames[1][LINE : LINE + 128, left : left + 128] == enlarged[..., None]).all()


def test_a_gif_of_colours_has_them():
    red, blue = (
        torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8) for colour in ((250, 0, 0), (0, 0, 250))
    )
    _, (first, second) = frames_of(animate(show_of([red, blue])))
    assert first[LINE + 5, GAP + 5].tolist() == [250, 0, 0]
    assert second[LINE + 5, GAP + 5].tolist() == [0, 0, 250]


def test_a_long_gif_is_made_smaller_and_a_single_picture_is_refused(monkeypatch):
    monkeypatch.setattr(animation, "MAX_PIXELS", 10_000)
    image, _ = frames_of(animate(show_of([torch.zeros(1, 20, 20, dtype=torch.uint8)] * 5)))
    assert (image.width - 2 * GAP, image.height - 2 * LINE - GAP) == (40, 40)
    with pytest.raises(ValueError, match="only one picture"):
        animate(show_of([torch.zeros(1, 8, 8, dtype=torch.uint8)]))


def test_the_gif_of_a_run_is_of_what_was_computed_before(library):
    results, job = Results(size_of), Job()
    asked = []
    room = SimpleNamespace(NAME="denoising", SETTINGS=denoising.SETTINGS, WORK=denoising.WORK)
    room.answer = lambda *given: (asked.append(given), denoising.answer(*given))[1]
    gifs = [animation_of(room, library, results, QUESTION, job) for _ in range(2)]
    assert frames_of(gifs[0])[0].n_frames == 3
    assert (gifs[0], len(asked)) == (gifs[1], 1)


def script(_library, chosen) -> str:
    return f"num_steps={chosen.steps}  # of A, and <b>text</b>"


def test_a_script_is_the_rooms_own_for_a():
    room = SimpleNamespace(TITLE="Any", SETTINGS=denoising.SETTINGS, script=script)
    assert script_for(room, None, f"{QUESTION}&b.steps=9").startswith("num_steps=3 ")
    del room.script
    with pytest.raises(ValueError, match="Any has no script"):
        script_for(room, None, QUESTION)
    assert "Python" in _buttons(with_script=True)
    assert "Python" not in _buttons(with_script=False)


@pytest.fixture(scope="module")
def address(library):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "script", script, raising=False)
        page = build_page(library)
        yield launch(page.app, Limits(), quiet=True, **page.options)
        page.app.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}?room=denoising&steps=3&b.steps=2")
    page.get_by_text("The first z0 is a blur").first.wait_for()
    yield page
    assert errors == []
    page.close()


def test_what_is_shown_is_copied_saved_and_written_as_python(page, tmp_path):
    def press(name: str) -> None:
        page.locator(".ldm-tools:visible").get_by_role("button", name=name, exact=True).click()

    def saved(name: str):
        with page.expect_download() as download:
            press(name)
        download.value.save_as(tmp_path / download.value.suggested_filename)
        return tmp_path / download.value.suggested_filename

    said = page.locator(".ldm-tools:visible output")
    pictures = page.locator(".ldm-stage:visible .ldm-sides").first.locator("img")
    width = sum(pictures.evaluate_all("images => images.map(image => image.naturalWidth * 8)"))
    png = Image.open(saved("PNG"))
    assert png.width > width
    block = np.asarray(png.convert("L"))
    top, left = 16 + 20, 16
    assert (block[top : top + 8, left : left + 8] == block[top, left]).all()
    assert Image.open(saved("GIF")).n_frames == len(page.locator(".ldm-film:visible img").all())
    press("Copy link")
    said.get_by_text("Copied.").wait_for()
    press("CSV")
    said.get_by_text("No plot is shown here.").wait_for()
    press("as Python")
    page.locator("dialog[open] code", has_text="num_steps=3  # of A, and <b>text</b>").wait_for()
    page.keyboard.press("Escape")
    press("Reset")
    page.wait_for_url("**steps=10**")
    assert "b.steps" not in page.url
    assert page.evaluate("ldm.tool.missing()") == ""
    said, address = page.evaluate(
        """() => { ldm.state.room = 'reconstruction'; ldm.state.values.upload = {path: '/x.png'};
            return [ldm.tool.missing(), ldm.address()]; }"""
    )
    assert "not in the link" in said
    assert "upload" not in address


def test_the_curves_of_all_plots_are_one_table(page, address):
    page.goto(f"{address}?room=alphas-betas")
    page.locator(".js-plotly-plot .main-svg").nth(3).wait_for()
    with page.expect_download() as download:
        page.locator(".ldm-tools:visible").get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    drawn = page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].flatMap(({data}) => data.map(({x}) => x.length))"
    )
    assert len(rows) == sum(drawn)
    assert {row["curve"] for row in rows} == {"linear", "scaled_linear", "cosine", "flow"}
    table = page.evaluate(
        """ldm.tool.table([{layout: {title: {text: '<b>of, "two"</b>'}}, getAttribute: () => null, data: [
            {name: '=1+1', x: {dtype: 'f8', bdata: btoa(String.fromCharCode(0, 0, 0, 0, 0, 0, 4, 64))}, y: [-3]},
            {z: [[1, 2], [3, 4]]}]}])"""
    )
    first, *cells = list(csv.reader(io.StringIO(table)))[1:]
    assert first == ['of, "two"', "'=1+1", "2.5", "-3", "", ""]
    assert [cell[2:5] for cell in cells] == [["0", "0", "1"], ["1", "0", "2"], ["0", "1", "3"], ["1", "1", "4"]]


def test_a_lesson_is_a_link_with_a_question_and_back_closes_it(page):
    row, banner = page.get_by_role("navigation", name="Lessons"), page.locator("[data-lesson=steps]")
    before = page.url
    link = row.get_by_role("link", name="4, 10 or 50 steps?")
    assert link.bounding_box()["y"] < 120
    link.click()
    banner.wait_for()
    assert not row.is_visible()
    assert "lesson=steps" in page.url
    page.get_by_text("step 1 of 4, B: step 1 of 50, t = 999").wait_for()
    answer = banner.get_by_text("4 are too few")
    assert not answer.is_visible()
    banner.get_by_text("Show the answer").click()
    assert answer.is_visible()
    page.go_back()
    row.wait_for()
    assert page.url == before
    page.go_forward()
    banner.get_by_role("button", name="Close the lesson").click()
    row.wait_for()
    assert "lesson" not in page.url


LABELS = """window.labels = new Set(); new MutationObserver(() => {
    document.querySelectorAll(".ldm-label").forEach(({textContent}) => textContent && labels.add(textContent));
}).observe(document, {childList: true, subtree: true, characterData: true});"""


def test_who_opens_a_lesson_does_not_see_the_end_before_pressing_play(page, address):
    page.add_init_script(LABELS)
    page.goto(f"{address}?room=denoising&steps=5&seed=7&step=0&lesson=steps")
    page.wait_for_function("() => window.ldm?.stages?.()[0]?.ldm?.done()")
    assert page.evaluate("[...labels]") == ["step 1 of 5, t = 999"]
    page.locator("[data-lesson=steps]").focus()
    page.keyboard.press(" ")
    page.get_by_text("step 5 of 5").first.wait_for()
