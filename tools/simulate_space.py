"""Start the app as a Hugging Face Space would: requirements.txt alone, installed before the sources are there, then a
read-only checkout run as `python app.py` with GRADIO_SERVER_NAME and _PORT set, and asked for an answer. A training
script is asked for its options, too: it has to find the package where nothing but requirements.txt is installed.

Not simulated: Hugging Face's proxy, ZeroGPU, the `spaces` package.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

REPO = Path(__file__).resolve().parents[1]
START_SECONDS = 180


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def install(folder: Path) -> Path:
    """A virtual environment with requirements.txt and nothing else of the repository; returns its Python."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    shutil.copy(REPO / "requirements.txt", folder)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", "requirements.txt"], cwd=folder, check=True)
    return python


def copy_tracked_files(checkout: Path) -> None:
    """What a clone would have, as it is here."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, check=True, capture_output=True, text=True).stdout
    for name in filter(None, files.split("\0")):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, checkout / name)


def read_only_checkout(folder: Path) -> Path:
    """The tracked files of the repository, none of which can be written."""
    checkout = folder / "app"
    copy_tracked_files(checkout)
    for path in [checkout, *checkout.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return checkout


def wait_for(address: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the app ended with exit status {process.returncode}")
        try:
            urlopen(address, timeout=5).read()
            return
        except (URLError, OSError):
            time.sleep(0.5)
    sys.exit(f"the app did not answer within {START_SECONDS} s")


ASK = """
import sys
from gradio_client import Client
client = Client(sys.argv[1], verbose=False)
answer = client.predict(pictures="none", api_name="/reconstruction")
(side,) = answer["show"]["sides"]
assert any(name == "PSNR" for name, _ in side["facts"]), answer
print("the app answers:", side)
"""


def main() -> None:
    reuse = sys.argv[1:] == ["--this-python"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = Path(sys.executable) if reuse else install(folder)
        checkout, port = read_only_checkout(folder), free_port()
        files = sorted(checkout.rglob("*"))
        environment = os.environ | {
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "GRADIO_SERVER_PORT": str(port),
            "SPACE_ID": "someone/ldm-explorer",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        script = [python, checkout / "train" / "ldm.py", "--help"]
        subprocess.run(script, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        process = subprocess.Popen([python, "app.py"], cwd=checkout, env=environment)
        try:
            wait_for(f"http://127.0.0.1:{port}", process)
            subprocess.run([python, "-c", ASK, f"http://127.0.0.1:{port}"], check=True)
            if written := sorted(set(checkout.rglob("*")) - set(files)):  # permissions do not bind root
                sys.exit(f"the app wrote into its read-only checkout: {written}")
        finally:
            process.terminate()
            process.wait(30)
            for path in [checkout, *checkout.rglob("*")]:
                path.chmod(0o755)


if __name__ == "__main__":
    main()
