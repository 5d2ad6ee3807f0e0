"""Names that are HTML, Markdown or a script are shown as they are, in every tab of a real browser."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from folder_faults import edit_json
from helpers import denoiser_records
from playwright.sync_api import Page

from ldm_explorer.explore.library import open_library
from ldm_explorer.film import FilmFrame, write_frame
from ldm_explorer.ui import CSS, TABS, THEME, build_app, denoising, training

RUN = "<img src=x onerror=window.pwned=1>"
OTHER_RUN = "[run](javascript:window.pwned=1) ![x](x) ${7*7} $$x$$ \"'&amp; <b onmouseover=window.pwned=1>"
UNFINISHED = "<svg onload=window.pwned=1>"
DATASET = "<style onload=window.pwned=1>"
CLASSES = ('"><script>window.pwned=1</script>', "<iframe srcdoc=pwned>")
SAMPLER = "<a href='javascript:window.pwned=1'>sampler</a>"
BROKEN = "<video src=x onerror=window.pwned=1>"
WHAT_RAN = """() => [
    window.pwned,
    ...document.querySelectorAll('[onerror], [onload], [onmouseover], iframe, video, [src=x], [href^=javascript]'),
    ...[...document.querySelectorAll('script, style')].filter(
        element => element.textContent.includes('pwned') && !element.textContent.startsWith('window.gradio_')),
].filter(Boolean).map(found => found.outerHTML || String(found))"""
"""Gradio's own scripts hold the names as JSON without a bracket."""


def write_log(folder: Path) -> None:
    records = [record | {UNFINISHED: RUN} for record in denoiser_records(5)]
    (folder / "train_log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="module")
def library_folder(color_folder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("names")
    for name in (RUN, OTHER_RUN):
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
    broken = shutil.copytree(root / DATASET / RUN, root / DATASET / BROKEN)
    (broken / "vae" / "config.json").write_text("{}")
    return root


@pytest.fixture
def page(browser, library_folder):
    app = build_app(open_library(library_folder))
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, theme=THEME, css=CSS)
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.set_default_timeout(10_000)
    page.requests = []
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(url)
    yield page
    page.close()
    app.close()


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


def test_hostile_names_are_text_in_every_tab(page, library_folder):
    from screenshots import open_tab

    is_shown(page, BROKEN)
    for tab in TABS:
        open_tab(page, tab.TITLE)
        page.locator("figure img:visible, .js-plotly-plot:visible").first.wait_for()
        if tab is TABS[0]:
            is_shown(page, f"{RUN}: 8x8x2", f"{CLASSES[1]}, test image")
        if tab is denoising:
            is_shown(page, f"{RUN}, {CLASSES[1]}, seed 0", SAMPLER)
        if tab is training:
            assert UNFINISHED + " (unfinished)" in choose(page, "Beside it", OTHER_RUN)
            is_shown(page, f"{OTHER_RUN}: The validation loss")
            page.locator(".legendtext").filter(has_text=OTHER_RUN).first.wait_for()
        assert page.evaluate(WHAT_RAN) == [], tab.TITLE
    assert choose(page, "Test image: class", CLASSES[0]) == list(CLASSES)
    for frame in (library_folder / DATASET / OTHER_RUN / "film").iterdir():
        frame.write_text("broken, so that an error names it")
    assert choose(page, "Checkpoint", OTHER_RUN) == [RUN, OTHER_RUN]
    toast = page.get_by_test_id("toast-text").first
    toast.wait_for()
    assert OTHER_RUN in toast.inner_text()
    assert page.evaluate(WHAT_RAN) == []
    assert [url for url in page.requests if url.endswith("/x") or not url.startswith(page.url)] == []
