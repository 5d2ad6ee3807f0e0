"""The page in a real browser: seen at once, asked for once, linked, and read by everybody."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from ldm_explorer.explore.library import open_library
from ldm_explorer.explore.opened import MayOpen
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.rooms import ROOMS, denoising
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import LIMITS

SIZES = {"laptop": (1280, 720), "projector": (1920, 1080), "phone": (390, 844)}
MAX_HTML_BYTES = 250_000
WHOLE = ".ldm-stage:not(.empty) figure img, .js-plotly-plot .main-svg, .ldm-card img"
"""What a room is looked at for: its picture or its figure."""


@pytest.fixture(scope="module")
def student_folder(ldm_folder, tmp_path_factory) -> Path:
    """What is sampled by DDIM in two steps where nobody says otherwise."""
    folder = shutil.copytree(ldm_folder, tmp_path_factory.mktemp("student") / "fashion_mnist" / "tiny-student")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"sampler": "ddim", "num_inference_steps": 2}))
    return folder


@pytest.fixture(scope="module")
def address(ldm_folder, vae_folder, student_folder):
    roots = (folder.parents[1] for folder in (ldm_folder, vae_folder, student_folder))
    library = replace(open_library(*roots), may_open=MayOpen(own=True))
    page = build_page(library)
    yield launch(page.app, LIMITS["off"], quiet=True, **page.options)
    page.app.close()


@pytest.fixture
def visit(browser, address):
    """Open an address of the page; returns the page and the questions that it asks the server."""
    opened = []

    def open_page(query: str = "", size: str = "laptop", **options):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        page, asked, errors = context.new_page(), [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.post_data) if "queue/join" in request.url else None)
        page.goto(address + query)
        opened.append((context, errors))
        return page, asked

    yield open_page
    for context, errors in opened:
        context.close()
        assert errors == []


def done(page, step: int | None = None) -> None:
    """Wait until the open room has answered, and stands at a step where one is given."""
    page.wait_for_function("() => window.ldm?.stages?.()[0]?.ldm?.done()")
    if step is not None:
        page.wait_for_function("(step) => ldm.stages()[0]?.ldm.at() === step", arg=step)


def pictures(page) -> list[str]:
    return page.eval_on_selector_all(".ldm-stage img", "images => images.filter(ldm.visible).map(image => image.src)")


def question(asked: list[str]) -> dict[str, list[str]]:
    return parse_qs(json.loads(asked[-1])["data"][0])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.NAME)
def test_the_picture_of_every_room_stands_whole_on_the_first_screen(visit, room, size):
    page, _ = visit(f"?room={room.NAME}", size)
    first = page.locator(WHOLE).locator("visible=true").first
    first.wait_for()
    box, (width, height) = first.bounding_box(), SIZES[size]
    assert box["y"] >= 0
    assert box["x"] >= 0
    assert box["y"] + box["height"] <= height
    assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_html_carries_no_pictures(browser, address):
    page = browser.new_page()
    html = page.request.get(address).text()
    page.close()
    assert "data:image/png" not in html
    assert len(html.encode()) < MAX_HTML_BYTES


def test_opening_a_room_asks_once_and_the_others_nothing(visit):
    page, asked = visit("?room=denoising")
    done(page)
    assert len(asked) == 1
    assert question(asked)["sampler"]


def test_one_choice_is_one_question(visit):
    page, asked = visit("?room=denoising&steps=4")
    done(page)
    for label, value in (("Seed", "7"), ("Steps", "5")):
        asked.clear()
        page.get_by_label(label).locator("visible=true").first.fill(value)
        page.get_by_label(label).locator("visible=true").first.press("Enter")
        page.wait_for_function("(wanted) => location.search.includes(wanted)", arg=f"{label.lower()}={value}")
        done(page)
        assert len(asked) == 1, asked
        assert question(asked)[label.lower()] == [value]


def test_another_step_is_shown_without_asking(visit):
    page, asked = visit("?room=denoising&steps=4")
    done(page)
    asked.clear()
    before = pictures(page)
    page.locator("body").press("ArrowLeft")
    page.wait_for_function("() => location.search.includes('step=')")
    assert pictures(page) != before
    assert asked == []


def test_a_room_that_was_seen_asks_nothing_when_it_is_opened_again(visit):
    page, asked = visit("?room=denoising&steps=4")
    done(page)
    page.get_by_role("tab", name="Reconstruction").click()
    done(page)
    asked.clear()
    page.get_by_role("tab", name="Denoising").click()
    done(page)
    assert asked == []


def test_a_link_gives_the_same_run_step_room_and_b_in_another_browser(visit):
    page, _ = visit("?room=denoising&steps=4&seed=3&b.steps=2&b.sampler=ddim")
    done(page)
    page.locator("body").press("ArrowLeft")
    page.wait_for_function("() => location.search.includes('step=')")
    link, shown = urlsplit(page.url), pictures(page)
    other, _ = visit(f"?{link.query}")
    done(other, int(parse_qs(link.query)["step"][0]))
    assert pictures(other) == shown
    assert urlsplit(other.url).query == link.query
    assert other.locator(".ldm-sides h3").all_inner_texts()[2:] == ["Difference"]


def test_back_gives_what_was_there_before(visit):
    page, _ = visit("?room=denoising&steps=4&seed=3")
    done(page)
    first = page.url
    page.get_by_role("tab", name="Reconstruction").click()
    page.wait_for_function("() => location.search.includes('room=reconstruction')")
    page.go_back()
    page.wait_for_function("() => document.body.dataset.room === 'denoising'")
    done(page)
    assert page.url == first
    assert page.get_by_label("Seed").locator("visible=true").first.input_value() == "3"


def test_an_old_or_wrong_address_gives_one_sentence_and_the_usual(visit):
    page, asked = visit("?room=attic&checkpoint=gone&steps=many&seed=-1&sampler=%3Cimg%20src=x%3E")
    said = page.locator("#ldm-message")
    said.filter(has_text="Not all of this address is known here").wait_for()
    for wrong in ("attic", "checkpoint is gone", "steps is many", "seed is -1", "sampler is <img"):
        assert wrong in said.inner_text()
    page.wait_for_function("(first) => document.body.dataset.room === first", arg=ROOMS[0].NAME)
    assert page.locator("#ldm-message img").count() == 0
    assert question(asked)["checkpoint"] == ["tiny-ldm"]


def test_a_folder_is_opened_examined_and_found_again_by_its_address(visit, color_folder, tmp_path):
    page, asked = visit("?room=denoising&steps=2&b.sampler=ddim")
    done(page)
    page.locator("#ldm-open").locator("visible=true").click()
    dialog, said = page.locator("dialog.ldm-opener"), page.locator(".ldm-opener [role=status]")
    for reference, sentence in (
        (tmp_path / "gone", "is no folder"),
        (tmp_path / "gone", "is no folder"),
        ("a/b", "hf:a/b"),
    ):
        dialog.locator("[name=source]").fill(str(reference))
        dialog.get_by_role("button", name="Open and examine").click()
        said.filter(has_text=sentence).wait_for()
    dialog.locator("[name=source]").fill(f"{color_folder}/")
    dialog.get_by_role("button", name="Open and examine").click()
    page.locator(".ldm-verdict").wait_for()
    assert parse_qs(urlsplit(page.url).query)["checkpoint"] == [str(color_folder)]
    page.get_by_role("link", name="See it step by step").first.click()
    page.get_by_role("heading", name=f"Broken: {color_folder.name}, as it is").wait_for()
    done(page)
    link = urlsplit(page.url).query
    other, asked = visit(f"?{link}&b.checkpoint=/nowhere")
    other.locator("#ldm-message").filter(has_text="/nowhere is no folder").wait_for()
    done(other)
    assert urlsplit(other.url).query == link
    assert other.get_by_role("heading", name=f"Broken: {color_folder.name}, as it is").is_visible()
    other.evaluate("(name) => ldm.follow(`?room=denoising&steps=2&checkpoint=${name}`)", str(color_folder))
    done(other)
    assert parse_qs(json.loads(asked[-1])["data"][0])["class_name"] == ["red"], "its own classes are offered"


def test_keep_as_b_compares_with_what_is_chosen_next(visit):
    page, asked = visit("?room=denoising&steps=4")
    done(page)
    page.get_by_role("button", name="Keep as B").locator("visible=true").click()
    page.get_by_label("Steps").locator("visible=true").first.fill("3")
    page.get_by_label("Steps").locator("visible=true").first.press("Enter")
    page.wait_for_function("() => location.search.includes('b.steps=4')")
    page.wait_for_function("() => document.querySelectorAll('.ldm-sides h3').length === 3")
    assert question(asked)["b.steps"] == ["4"]
    assert "b.seed" not in question(asked)


def test_a_checkpoint_brings_its_own_sampler_and_steps_and_takes_them_along(visit):
    page, asked = visit("?room=denoising&checkpoint=tiny-student")
    done(page)
    assert [question(asked)[name] for name in ("sampler", "steps")] == [["ddim"], ["2"]]
    for name, wanted in (("tiny-ldm", ["unipc", "10"]), ("tiny-student", ["ddim", "2"])):
        page.get_by_label("Checkpoint", exact=True).locator("visible=true").click()
        page.get_by_role("option", name=f"{name}:").click()
        page.wait_for_function("(name) => location.search.includes(`checkpoint=${name}`)", arg=name)
        page.wait_for_function("(steps) => location.search.includes(`steps=${steps}&`)", arg=wanted[1])
        done(page)
        assert [question(asked)[name][0] for name in ("sampler", "steps")] == wanted
    page.get_by_label("Steps").locator("visible=true").first.fill("3")
    page.get_by_label("Steps").locator("visible=true").first.press("Enter")
    page.wait_for_function("() => location.search.includes('steps=3&')")
    page.get_by_label("Checkpoint", exact=True).locator("visible=true").click()
    page.get_by_role("option", name="tiny-ldm:").click()
    page.wait_for_function("() => location.search.includes('sampler=unipc')")
    done(page)
    assert question(asked)["steps"] == ["3"], "what was chosen by hand stays"


@pytest.mark.parametrize(("given", "steps_of_b"), [("", ["2"]), ("&steps=3", None), ("&b.steps=4", ["4"])])
def test_b_takes_its_own_sampler_and_steps_where_the_address_says_none(visit, given, steps_of_b):
    page, asked = visit(f"?room=denoising&checkpoint=tiny-ldm&b.checkpoint=tiny-student{given}")
    done(page)
    asks = question(asked)
    assert asks.get("b.steps") == steps_of_b, "as the endpoint does, and with the steps that A is given"
    assert asks["b.sampler"] == ["ddim"]
    assert "b.steps" not in asks or asks["steps"] == ["10"]


def test_what_is_folded_away_asks_when_it_is_opened_and_again_for_another_choice(visit):
    page, asked = visit("?room=reconstruction")
    done(page)
    asked.clear()
    page.get_by_role("button", name="Where does 0.18215 come from?").click()
    page.locator(".ldm-table").wait_for()
    assert len(asked) == 1
    page.evaluate("ldm.follow('?room=reconstruction&checkpoint=tiny-vae')")
    page.wait_for_function("() => location.search.includes('checkpoint=tiny-vae')")
    done(page)
    page.wait_for_timeout(300)
    assert len(asked) == 3, "the room, and what stands open in it"
    asked.clear()
    page.evaluate("ldm.follow('?room=denoising&steps=2')")
    page.wait_for_function("() => document.body.dataset.room === 'denoising'")
    done(page)
    assert len(asked) == 1, asked


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Seeds of the steps of Denoising as they are computed, ten a second."""
    inner, steps = denoising.denoise_images, []

    def slowly(checkpoint, class_name, seed, *arguments, **options):
        for step in inner(checkpoint, class_name, seed, *arguments, **options):
            time.sleep(0.1)
            steps.append(seed)
            yield step

    monkeypatch.setattr(denoising, "denoise_images", slowly)
    return steps


def test_a_link_with_choices_of_every_kind_of_control_is_one_question(visit):
    """They take their values one after the other, and tell of each."""
    page, asked = visit("?room=denoising&sampler=ddim&steps=3&classes=each&images=2&guidance=2")
    done(page)
    page.wait_for_timeout(500)
    assert len(asked) == 1
    assert "steps=3&guidance=2&denoiser=network&classes=each&images=2" in page.url


def test_a_new_choice_ends_what_was_asked_before(visit, computed):
    page, _ = visit("?room=denoising&steps=200&seed=41")
    page.wait_for_function("() => window.ldm?.stages?.()[0]?.ldm?.count() > 2")
    page.evaluate("ldm.follow('?room=denoising&steps=2&seed=42')")
    done(page)
    before = computed.count(41)
    page.wait_for_timeout(600)
    assert computed.count(41) == before < 60


def test_a_room_that_is_left_is_not_computed_and_goes_on_when_it_is_opened_again(visit, computed):
    page, _ = visit("?room=denoising&steps=40&seed=43")
    page.wait_for_function("() => window.ldm?.stages?.()[0]?.ldm?.count() > 2")
    page.get_by_role("tab", name="Alphas & betas").click()
    done(page)
    page.wait_for_timeout(300)
    before = computed.count(43)
    page.wait_for_timeout(600)
    assert computed.count(43) == before < 40
    page.get_by_role("tab", name="Denoising").click()
    page.wait_for_function("() => document.body.dataset.room === 'denoising'")
    done(page)
    assert page.evaluate("ldm.stages()[0].ldm.count()") == 40
    assert "seed=43" in page.url


def test_the_button_that_keeps_b_says_what_it_does(visit):
    page, _ = visit("?room=denoising&steps=2")
    done(page)
    page.get_by_role("button", name="Keep as B").click()
    page.get_by_role("button", name="Remove B").wait_for()
    page.evaluate("ldm.follow('?room=denoising&steps=2')")
    page.get_by_role("button", name="Keep as B").wait_for()


def test_a_run_is_stopped_only_while_it_runs_keeps_its_frames_and_goes_on(visit, monkeypatch):
    inner = denoising.denoise_images

    def slowly(*arguments, **options):
        for step in inner(*arguments, **options):
            time.sleep(0.1)
            yield step

    monkeypatch.setattr(denoising, "denoise_images", slowly)
    page, _ = visit("?room=denoising&steps=250")
    stop = page.locator(".ldm-stop").locator("visible=true")
    stop.filter(has_text="Stop").click()
    page.get_by_text("Stopped at step").wait_for()
    page.wait_for_timeout(500)  # what was on its way still comes
    kept = page.evaluate("ldm.stages()[0].ldm.count()")
    assert 0 < kept < 84
    page.wait_for_timeout(500)
    assert page.evaluate("ldm.stages()[0].ldm.count()") == kept
    page.evaluate("ldm.follow('?room=denoising&steps=2')")
    done(page)
    assert stop.count() == 0
    page.evaluate("ldm.follow('?room=denoising&steps=250')")
    stop.filter(has_text="Stop").click()
    stop.filter(has_text="Go on").click()
    page.wait_for_function("(kept) => ldm.stages()[0].ldm.count() > kept + 2", arg=kept)
    stop.filter(has_text="Stop").click()
    page.get_by_text("Stopped at step").wait_for()


def test_on_a_phone_rooms_are_a_list_with_previous_and_next(visit):
    page, _ = visit("?room=reconstruction", "phone")
    page.get_by_label("Next room").click()
    page.wait_for_function("(room) => document.body.dataset.room === room", arg=ROOMS[1].NAME)
    page.get_by_label("Room", exact=True).select_option("denoising")
    done(page)
    page.get_by_role("button", name="Choices").click()
    assert page.get_by_label("Seed").locator("visible=true").first.is_visible()


def test_stage_and_plot_have_one_cursor(visit):
    page, asked = visit("?room=velocity&step=5")
    done(page, 5)
    cursor = page.locator(".ldm-follow .ldm-cursor")
    cursor.wait_for()
    asked.clear()
    before = cursor.bounding_box()["x"]
    page.locator("body").press("ArrowRight")
    page.wait_for_function(
        "(before) => document.querySelector('.ldm-cursor').getBoundingClientRect().x > before", arg=before
    )
    page.locator(".ldm-follow .nsewdrag").scroll_into_view_if_needed()
    plot = page.locator(".ldm-follow .nsewdrag").bounding_box()
    page.mouse.move(plot["x"] + plot["width"] - 3, plot["y"] + plot["height"] / 2)
    page.wait_for_function("() => ldm.stages()[0].ldm.at() === ldm.stages()[0].ldm.count() - 1")
    assert asked == []


def test_a_room_with_two_sides_of_its_own_takes_no_b(visit):
    page, asked = visit("?room=faults&b.seed=3&b.checkpoint=tiny-vae")
    done(page)
    assert page.get_by_role("button", name="Keep as B").locator("visible=true").count() == 0
    assert "b." not in json.loads(asked[-1])["data"][0]
    assert page.locator(".ldm-sides h3").count() == 2


def test_the_list_of_faults_is_that_of_the_checkpoint_and_an_address_says_why_not(visit):
    page, _ = visit("?room=faults&fault=far_shift")
    page.get_by_role("alert").get_by_text("is sampled along betas: choose another fault").wait_for()
    assert page.get_by_label("Fault", exact=True).input_value().startswith("Flow: a shift"), "as it was asked"
    page.get_by_label("Fault", exact=True).click()
    page.get_by_role("option", name="Latents clipped").wait_for()
    assert page.get_by_role("option", name="Flow:").count() == 1


def test_a_formula_is_checked_where_it_is_typed(visit):
    page, _ = visit("?room=velocity")
    page.get_by_placeholder("eps = ...").fill("z_s = a_s*z0 + b_s*eps")
    page.get_by_role("button", name="Check").click()
    page.get_by_text("Right: identical by algebra").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["laptop", "phone"])
def test_axe_finds_nothing_serious_in_any_room(visit, size, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page, _ = visit("", size, color_scheme=scheme)
    page.wait_for_function("() => window.ldm?.state.started")
    found = {}
    for room in ROOMS:
        page.evaluate("(room) => ldm.open(room)", room.NAME)
        page.locator(WHOLE).locator("visible=true").first.wait_for()
        page.wait_for_function(
            "() => ![...document.querySelectorAll('.empty[aria-label]')].some(ldm.visible)"
        )  # gradio's
        violations = axe.run(page).response["violations"]
        serious = [
            (violation["id"], violation["nodes"][0]["html"][:200])
            for violation in violations
            if violation["impact"] in ("serious", "critical")
        ]
        if serious:
            found[room.NAME] = serious
    assert found == {}
