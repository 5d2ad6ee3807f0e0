"""Build a wheel of the tracked files, install it in an empty environment, and use it from an empty folder.

Imports it, runs the README's Python, diagnoses a shipped checkpoint, and serves the app over `--checkpoints` until it
has answered, also from the runs of the lab and their classifier, which are looked for there.
"""

import os
import re
import subprocess
import tempfile
import venv
from pathlib import Path

from simulate_space import ASK, REPO, copy_tracked_files, free_port, wait_for

CHECKPOINTS = REPO / "checkpoints"
VARIABLE = "LDM_EXPLORER_CHECKPOINTS"
HEALTHY = CHECKPOINTS / "fashion_mnist" / "ldm-8x8x4-cosine"
(README_PYTHON,) = re.findall(r"```python\n(.*?)```", (REPO / "README.md").read_text(), re.DOTALL)
IMPORT = """
from pathlib import Path
import ldm_explorer
from ldm_explorer.explore.images import SHIPPED_IMAGES
package = Path(ldm_explorer.__file__).parent
assert "site-packages" in package.parts, package
assert (package / "py.typed").is_file()
assert len(list(SHIPPED_IMAGES.glob("fashion_mnist/*/*.png"))) == 100
"""
ASK_THE_LAB = """
import sys
from gradio_client import Client
client = Client(sys.argv[1], verbose=False)
client.predict(fault="few_steps", pictures="none", api_name="/faults")
"""


def install(folder: Path) -> Path:
    """A virtual environment with the wheel and the app's extra; returns the folder of its commands."""
    copy_tracked_files(folder / "checkout")
    venv.create(folder / "environment", with_pip=True)
    commands = folder / "environment" / "bin"
    pip = [commands / "python", "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", folder, folder / "checkout"], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "-q", f"{wheel}[app]"], check=True)
    return commands


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        commands, empty = install(Path(name)), Path(name) / "empty"
        empty.mkdir()
        subprocess.run([commands / "python", "-c", IMPORT], cwd=empty, check=True)
        shipped = os.environ | {VARIABLE: str(CHECKPOINTS)}
        subprocess.run([commands / "python", "-c", README_PYTHON], cwd=empty, env=shipped, check=True)
        subprocess.run([commands / "ldm-diagnose", HEALTHY], cwd=empty, check=True)
        subprocess.run([commands / "ldm-explorer", "--help"], cwd=empty, check=True)
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        app = [commands / "ldm-explorer", "--checkpoints", CHECKPOINTS, "--port", str(port)]
        process = subprocess.Popen(app, cwd=empty)
        try:
            wait_for(address, process)
            for question in (ASK, ASK_THE_LAB):
                subprocess.run([commands / "python", "-c", question, address], check=True)
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
