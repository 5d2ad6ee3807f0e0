"""Photograph every room of a running app: `python tools/screenshots.py http://127.0.0.1:7860 FOLDER`, a new folder."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from ldm_explorer.ui.rooms import ROOMS

SIZES = {"laptop": (1280, 720), "projector": (1920, 1080), "phone": (390, 844)}
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
SETTLED = "() => { const stage = ldm.stages()[0]; return !stage || stage.ldm.done(); }"


def launch_chromium(playwright):
    """The system's Chromium, else Playwright's own."""
    path = str(CHROMIUM) if CHROMIUM.exists() else None
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


def main(address: str, folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True)
    except FileExistsError:
        sys.exit(f"error: {folder} exists already: give a new folder")
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        for scheme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                for number, room in enumerate(ROOMS, start=1):
                    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                    page.goto(f"{address}?room={room.NAME}")
                    page.wait_for_timeout(1500)
                    page.wait_for_function(SETTLED, timeout=120_000)
                    page.wait_for_timeout(1000)
                    page.screenshot(path=Path(folder) / f"{number}-{room.NAME}-{size}-{scheme}.png")
                    page.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
