"""Names that are HTML, Markdown or a script are shown as they are, in every room of a real browser."""

import json
import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest
import torch
from folder_edits import edit_json
from helpers import denoiser_records
from playwright.sync_api import Page

from ldm_explorer.explore.library import open_library
from ldm_explorer.film import FilmFrame, write_frame
from ldm_explorer.run_folder import MARK
from ldm_explorer.ui import few_evaluations
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.rooms import ROOMS
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import LIMITS

RUN = "<img src=x onerror=window.pwned=1>"
OTHER_RUN = "[run](javascript:window.pwned=1) ![x](x) ${7*7} $$x$$ \"'&amp; <b onmouseover=window.pwned=1>"
AUTOENCODER = "<object data=x onerror=window.pwned=1>"
UNFINISHED = "<svg onload=window.pwned=1>"
DATASET = "<style onload=window.pwned=1>"
CLASSES = ('"><script>window.pwned=1</script>', "<iframe srcdoc=pwned>")
SAMPLER = "<a href='javascript:window.pwned=1'>sampler</a>"
BROKEN = "<video src=x onerror=window.pwned=1>"
WHAT_RAN = """() => [
    window.pwned,
    ...document.querySelectorAll('[onerror], [onload], [onmouseover], iframe, video, [src=x], [href^=javascript]'),
    ...[...document.querySelectorAll('script, style')].filter(
        ({textContent}) => textContent.includes('pwned') && !/^(window.gradio_|const LDM = )/.test(textContent)),
].filter(Boolean).map(found => found.outerHTML || String(found))"""
"""Gradio's own scripts and ours hold the names as JSON without a bracket."""
PICTURES = ".ldm-stage:not(.empty) figure img, .js-plotly-plot .main-svg, .ldm-card"


def write_log(folder: Path) -> None:
    records = [record | {UNFINISHED: RUN} for record in denoiser_records(5)]
    (folder / "train_log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="module")
def library_folder(color_folder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("names")
    for name in (RUN, OTHER_RUN, AUTOENCODER):
        folder = shutil.copytree(color_folder, root / DATASET / name)
        edit_json(folder / "dataset.json", class_names=CLASSES)
        write_log(folder)
        curves = {"fd_percent": {SAMPLER: [2.0, 1.0]}, "evaluations": [1, 2], "num_images": 100}
        evaluation = {"generation": {"sampler": SAMPLER, "num_steps": 2, "fd_percent": 1.0}}
        (folder / "metrics.json").write_text(json.dumps({"few_evaluations": curves, "evaluation": evaluation}))
        for step in (1, 5):
            write_frame(folder, FilmFrame(step, torch.full((12, 3, 16, 16), 50 * step, dtype=torch.uint8)))
    unfinished = root / DATASET / UNFINISHED
    unfinished.mkdir()
    shutil.copy(root / DATASET / RUN / "dataset.json", unfinished)
    (unfinished / "train_config.json").write_text(json.dumps({"dataset": f"folder:{DATASET}"}))
    write_log(unfinished)
    for part in ("unet", "scheduler", MARK):
        shutil.rmtree(root / DATASET / AUTOENCODER / part)
    (root / DATASET / AUTOENCODER / "model_index.json").unlink()
    broken = shutil.copytree(root / DATASET / RUN, root / DATASET / BROKEN)
    (broken / "vae" / "config.json").write_text("{}")
    return root


@pytest.fixture(scope="module")
def address(library_folder):
    page = build_page(open_library(library_folder))
    yield launch(page.app, LIMITS["off"], quiet=True, **page.options)
    page.app.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.set_default_timeout(10_000)
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []
    assert [url for url in requests if url.endswith("/x") or not url.startswith((address, "data:", "blob:"))] == []


def choose(page: Page, label: str, option: str) -> list[str]:
    """Choose an option of a dropdown; returns the texts of all."""
    page.get_by_label(label, exact=True).locator("visible=true").first.click()
    options = page.get_by_role("option").locator("visible=true")
    options.first.wait_for()
    texts = options.all_text_contents()
    options.filter(has_text=option).first.click()
    options.first.wait_for(state="hidden")
    return [text.replace("✓", "").strip() for text in texts]


def is_shown(page: Page, *texts: str) -> None:
    for text in texts:
        page.get_by_text(text).locator("visible=true").first.wait_for()


def done(page: Page) -> None:
    page.wait_for_function("() => window.ldm?.stages && ldm.stages().every((stage) => stage.ldm.done())")


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.NAME)
def test_hostile_names_are_text_in_every_room(page, address, room):
    """Two runs, A and B, whichever parameter of the room names them."""
    one, other = {"checkpoint": RUN, "run": RUN}, {"b.checkpoint": OTHER_RUN, "b.run": OTHER_RUN}
    page.goto(f"{address}?{urlencode({'room': room.NAME, 'class_name': CLASSES[1], **one, **other})}")
    page.locator(PICTURES).locator("visible=true").first.wait_for()
    done(page)
    is_shown(page, BROKEN)
    assert page.evaluate(WHAT_RAN) == []
    folds = page.locator(".ldm-room button.label-wrap:not(.open)").locator("visible=true")
    while folds.count():
        folds.first.click()
    done(page)
    if room.NAME in ("reconstruction", "denoising", "training"):
        assert page.locator(".ldm-sides h3").filter(has_text=RUN).count()
        assert page.locator(".ldm-sides h3").filter(has_text=OTHER_RUN).count()
    if room.NAME == "reconstruction":
        is_shown(page, f"{RUN}: 8x8x2", f"{CLASSES[1]}, test image")
    if room.NAME == "training":
        page.locator(".js-plotly-plot text").filter(has_text=OTHER_RUN[:20]).first.wait_for()
        assert any(run.startswith(f"{UNFINISHED} (unfinished)") for run in choose(page, "Run", OTHER_RUN))
    if few_evaluations in getattr(room, "PARTS", ()):
        is_shown(page, SAMPLER)
    assert page.evaluate(WHAT_RAN) == []


def test_hostile_names_are_text_where_they_are_chosen(page, address):
    page.goto(f"{address}?room=reconstruction")
    done(page)
    for name in CLASSES:
        page.get_by_label(f"{name}, test image 2", exact=True).click()
        page.wait_for_function("(name) => ldm.state.values.class_name === name", arg=name)
        done(page)
        is_shown(page, f"{name}, test image")
    listed = choose(page, "Checkpoint", OTHER_RUN)
    assert all(line.startswith(name) for line, name in zip(listed, [RUN, AUTOENCODER, OTHER_RUN], strict=True))
    page.wait_for_function("(name) => ldm.state.values.checkpoint === name", arg=OTHER_RUN)
    done(page)
    is_shown(page, f"{OTHER_RUN}: 8x8x2")
    assert page.evaluate(WHAT_RAN) == []


def test_a_hostile_address_is_text_in_what_is_said_of_it(page, address):
    known = {"room": "denoising", "checkpoint": RUN, "class_name": CLASSES[0], "b.checkpoint": BROKEN}
    page.goto(f"{address}?{urlencode(known | {'lesson': OTHER_RUN, 'step': RUN, OTHER_RUN: RUN})}")
    said = page.locator("#ldm-message").filter(has_text="Not all of this address is known here")
    said.wait_for()
    assert f"checkpoint is {BROKEN}" in said.inner_text()
    page.goto(f"{address}?{urlencode({'room': RUN, 'checkpoint': BROKEN, 'sampler': SAMPLER, 'seed': OTHER_RUN})}")
    said = page.locator("#ldm-message").filter(has_text="Not all of this address is known here")
    said.wait_for()
    for text in (
        f"no room {RUN}",
        f"checkpoint is {BROKEN}",
        f"sampler is {SAMPLER}"[:60],
        f"seed is {OTHER_RUN[:60]}",
    ):
        assert text in said.inner_text()
    done(page)
    assert page.evaluate(WHAT_RAN) == []


def test_an_error_of_a_run_with_a_hostile_name_is_text(page, address):
    page.goto(f"{address}?{urlencode({'room': 'denoising', 'checkpoint': AUTOENCODER})}")
    is_shown(page, f"{AUTOENCODER} is an autoencoder")
    assert page.evaluate(WHAT_RAN) == []
