"""Models of a Hub on this machine: what is fetched, what is kept, and what is said where there is nothing to be had."""

import json
import subprocess
import sys

import pytest
from commands import REPO
from foreign_models import save_latents, save_pixels
from loopback_hub import LoopbackHub

from ldm_explorer import hub
from ldm_explorer.files import CheckpointError
from ldm_explorer.hub import fetch, is_hub_id, name_on_hub

ASK = """
import json, sys
import huggingface_hub
from ldm_explorer import hub
from ldm_explorer.sources import open_source

for line in sys.stdin:
    reference, most = json.loads(line)
    huggingface_hub.close_session()  # a connection that is kept would outlive the server
    try:
        checkpoint = open_source(reference, max_bytes=most)
        images = checkpoint.pipeline(seeds=[0], num_inference_steps=1, output_type="pt").images
        files = sorted(path.relative_to(checkpoint.folder).as_posix() for path in checkpoint.folder.rglob("*.*"))
        said = [checkpoint.name, checkpoint.kind, checkpoint.dataset, float(images.std()), files]
    except ValueError as error:
        said = str(error)
    print(json.dumps(said), flush=True)
"""
"""Opens each reference with a limit of bytes, in a process of its own: the address of the Hub is read at import."""


class Client:
    """One who opens models, one after the other."""

    def __init__(self, environment: dict[str, str]):
        command = [sys.executable, "-c", ASK]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPO, env=environment
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.process.communicate()

    def open(self, name: str, most: int = hub.MAX_BYTES) -> list | str:
        """What the model of somebody is, or the sentence that refuses it."""
        self.process.stdin.write(json.dumps([f"hf:somebody/{name}", most]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


SAID = {
    "pickled": "somebody/pickled has no safetensors weights in unet/: nothing else is read",
    "vq": "vae holds a VQModel: what is read is an AutoencoderKL",
    "text": "somebody/text holds no config.json: give one of diffusers' models",
    "pixels@gone": "hf:somebody/pixels@gone is no revision of this model",
    "nothing": "hf:somebody/nothing is not on the Hub, or is private",
    "hidden": "hf:somebody/hidden is not on the Hub, or is private",
}


def test_a_model_is_fetched_once_by_branch_or_commit_without_what_is_not_read(tmp_path):
    folder = save_pixels(tmp_path / "model")
    for name in ("pipeline.py", "unet/diffusion_pytorch_model.bin", "README.md", ".ldm-explorer/files.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    latents = save_latents(tmp_path / "latents", variant="fp16")
    with LoopbackHub() as server, Client(server.environment(tmp_path / "home")) as client:
        first = server.add("somebody/pixels", folder)
        server.add("somebody/pixels", latents, revision="later")
        server.add("somebody/latents", latents)
        server.add("somebody/hidden", folder, private=True)
        server.add("somebody/pickled", {"unet/config.json": (folder / "unet/config.json").read_bytes()})
        server.add("somebody/vq", {"vae/config.json": b'{"_class_name": "VQModel"}'})
        server.add("somebody/text", {"README.md": b"# nothing"})
        pixels = client.open("pixels")
        assert pixels[:3] == ["pixels", "pixel", "pixels"]
        assert pixels[4] == [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
        ]
        assert client.open(f"pixels@{first}") == pixels
        assert client.open("pixels@later")[:2] == ["pixels", "ldm"]
        assert "files to read: 0 MB and 1,000 files are fetched at most" in client.open("latents", most=1000)
        assert "vae/diffusion_pytorch_model.fp16.safetensors" in client.open("latents")[4]
        for name, wanted in SAID.items():
            said = client.open(name)
            assert wanted in said
            assert "\n" not in said
        fetched = [request for request in server.requests if "/resolve/" in request]
        assert not [request for request in fetched if request.endswith((".bin", ".py", ".md", "files.json"))]
        server.__exit__()
        assert client.open("pixels") == pixels
        assert "is not in the cache and the Hub cannot be reached: go online" in client.open("nothing")


NO_IDS = ("hf:", "hf:name", "hf:a/b/c", "hf:a/b@", "hf:a b/c", "hf:../b", "hf:a/..", "hf:a/\n", "hf:é/b", "hf:a/b@-x")


@pytest.mark.parametrize("reference", NO_IDS)
def test_what_is_no_id_is_refused_before_anything_is_asked(reference, monkeypatch):
    monkeypatch.setattr(hub, "HfApi", lambda: pytest.fail("asked"))
    assert is_hub_id(reference)
    with pytest.raises(CheckpointError, match="no id of a model"):
        fetch(reference)


def test_a_name_is_that_of_the_repository():
    assert name_on_hub("hf:owner/name") == name_on_hub("hf:owner/name@v1") == "name"
    assert not is_hub_id("owner/name")
