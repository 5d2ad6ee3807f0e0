"""Photograph every tab of a running app: `python tools/screenshots.py http://127.0.0.1:7860 FOLDER`, a new folder."""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from ldm_explorer.ui import TABS

SIZES = {"desktop": (1360, 900), "phone": (390, 844)}
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]


def launch_chromium(playwright):
    """The system's Chromium, else Playwright's own."""
    path = str(CHROMIUM) if CHROMIUM.exists() else None
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


def open_tab(page: Page, title: str) -> None:
    """Select a tab, also when the page is so narrow that it hides behind the overflow menu."""
    page.get_by_role("tab").locator("visible=true").first.wait_for()
    tab = page.get_by_role("tab", name=title).locator("visible=true")
    if not tab.count():
        page.get_by_role("button", name="More tabs").locator("visible=true").click()
        tab = page.get_by_role("button", name=title).locator("visible=true")
    tab.first.click()


def main(address: str, folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True)
    except FileExistsError:
        sys.exit(f"error: {folder} exists already: give a new folder")
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        for scheme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(address)
                page.get_by_role("heading", name="LDM Explorer").wait_for()
                for number, tab in enumerate(TABS, start=1):
                    open_tab(page, tab.TITLE)
                    page.wait_for_timeout(2500)
                    page.screenshot(path=Path(folder) / f"{number}-{size}-{scheme}.png", full_page=True)
                page.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
