"""Photograph a running app: `python tools/screenshots.py http://127.0.0.1:7860 FOLDER`, every room into a new folder.

With `docs/app.png` in the place of FOLDER it takes the picture in README, of an app on the shipped checkpoints.
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from ldm_explorer.ui.rooms import ROOMS

SIZES = {"laptop": (1280, 720), "projector": (1920, 1080), "phone": (390, 844)}
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
IN_README, SIZE_IN_README = "/?room=denoising&steps=4&b.steps=50", (1280, 800)
SETTLED = "() => { const stage = ldm.stages()[0]; return !stage || stage.ldm.done(); }"


def launch_chromium(playwright):
    """The system's Chromium, else Playwright's own."""
    path = str(CHROMIUM) if CHROMIUM.exists() else None
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


def photograph(browser: Browser, address: str, path: Path, size: tuple[int, int], scheme: str = "light") -> None:
    """The page at an address, once its open room has answered."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.goto(address)
    page.wait_for_timeout(1500)
    page.wait_for_function(SETTLED, timeout=120_000)
    page.wait_for_timeout(1000)
    page.screenshot(path=path)
    page.close()


def main(address: str, target: str) -> None:
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        if Path(target).suffix == ".png":
            photograph(browser, address.rstrip("/") + IN_README, Path(target), SIZE_IN_README)
            return
        try:
            Path(target).mkdir(parents=True)
        except FileExistsError:
            sys.exit(f"error: {target} exists already: give a new folder")
        for scheme in ("light", "dark"):
            for name, size in SIZES.items():
                for number, room in enumerate(ROOMS, start=1):
                    path = Path(target) / f"{number}-{room.NAME}-{name}-{scheme}.png"
                    photograph(browser, f"{address}?room={room.NAME}", path, size, scheme)


if __name__ == "__main__":
    main(*sys.argv[1:])
