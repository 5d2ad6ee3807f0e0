"""A run on the Hub: what goes up, what loads it, and what is said where it cannot get there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import REPO
from loopback_hub import OWNER, TOKEN, LoopbackHub
from PIL import Image

from ldm_explorer.atomic import write_json
from ldm_explorer.data import dataset_spec
from ldm_explorer.run_files import update_metrics, write_spec
from ldm_explorer.run_folder import FolderRefused, RunFolder
from ldm_explorer.run_layout import SAMPLES_FILE
from ldm_explorer.training import push as module
from ldm_explorer.training.config import FitConfig
from ldm_explorer.training.push import PushFailed, files_to_push, push
from ldm_explorer.training.run_card import run_card, sample_grid, without_places

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from ldm_explorer.training.push import PushFailed, push
folder, name = Path(sys.argv[1]), sys.argv[2]
said = {"address": push(folder, name)}
(folder / "film" / "step-000000005.webp").unlink()
push(folder, name)
push(folder, f"{name}-new")
from ldm_explorer.sources import open_source
opened = open_source(f"hf:{name}")
images = opened.pipeline([3], [0], num_inference_steps=2, output_type="pt").images
said["opened"] = [opened.kind, images.sum().item()]
from diffusers import DiffusionPipeline
for options in ({}, {"custom_pipeline": name}):
    pipeline = DiffusionPipeline.from_pretrained(name, trust_remote_code=True, **options)
    generator = [torch.Generator().manual_seed(0)]
    said["image"] = pipeline([3], generator=generator, num_inference_steps=2, output_type="pt").images.sum().item()
try:
    push(folder, "somebody/run")
except PushFailed as error:
    said["not mine"] = str(error)
print(json.dumps(said))
"""
NAME = f"{OWNER}/run"
COST = {"steps": 5, "images": 500, "cpu_minutes": 0.1, "gflops_per_image": 0.1, "parameters": 1000}


@pytest.fixture(scope="module")
def run(ldm_folder, tmp_path_factory) -> Path:
    """A finished run, with a state, and files of others in it. Read only: copy it to change it."""
    folder = shutil.copytree(ldm_folder, tmp_path_factory.mktemp("home-of-jane") / "fashion_mnist" / "run")
    own = RunFolder(folder)
    own.adopt(["train_log.jsonl"])
    own.write_json("train_config.json", {"dataset": f"folder:{folder.parent}/pictures", "vae": str(folder / "vae")})
    write_spec(folder, dataset_spec("fashion_mnist"))
    own.write_bytes("state-000000005/state.safetensors", b"state")
    own.write_bytes(SAMPLES_FILE, sample_grid(folder, 1))
    update_metrics(folder, "training", COST | {"command": f"accelerate launch train/ldm.py --vae {folder}/vae"})
    own.write_text("README.md", run_card(folder))
    (folder / "diary.txt").write_text("mine")
    (folder / "unet" / "mine.safetensors").write_bytes(b"mine")
    return folder


@pytest.fixture(scope="module")
def pushed(run, tmp_path_factory) -> tuple[LoopbackHub, dict]:
    """The hub after two pushes of a copy of the run, and what the process saw."""
    home = tmp_path_factory.mktemp("hub")
    copied = shutil.copytree(run, home / "run")
    with LoopbackHub() as hub:
        hub.add("somebody/run", {"README.md": b"theirs"})
        left = dict.fromkeys(("unet/diffusion_pytorch_model-00001-of-00002.safetensors", "unet/notes.txt"), b"before")
        hub.add(NAME, left)
        command = [sys.executable, "-c", SCRIPT, str(copied), NAME]
        environment = hub.environment(home / "cache", TOKEN) | {"PYTHONPATH": str(REPO)}
        done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return hub, json.loads(done.stdout.splitlines()[-1])


def test_what_the_run_wrote_goes_up_and_nothing_else(run, pushed):
    hub, _ = pushed
    files = hub.files(NAME)
    own = {name for name in RunFolder(run).names if not name.startswith("state-")}
    assert files.keys() - {"unet/notes.txt"} == own - {"film/step-000000005.webp"}, (
        "a second push takes away what is gone"
    )
    for name in own.intersection(files) - {"README.md", "train_config.json", "metrics.json"}:
        assert files[name] == (run / name).read_bytes(), name
    assert hub.repos[f"{NAME}-new"].private, "what is to be seen by all is the owner's choice"
    assert hub.files(f"{NAME}-new").keys() - {".gitattributes"} == files.keys() - {"unet/notes.txt"}
    assert hub.files("somebody/run") == {"README.md": b"theirs"}


def test_nothing_that_goes_up_says_where_it_lay(pushed):
    hub, _ = pushed
    texts = {
        name: content for name, content in hub.files(NAME).items() if Path(name).suffix in (".json", ".md", ".jsonl")
    }
    assert {"README.md", "train_config.json", "metrics.json"} <= texts.keys()
    assert [name for name, content in texts.items() if b"home-of-jane" in content] == []
    assert json.loads(texts["train_config.json"]) == {"dataset": "folder:pictures", "vae": "vae"}


def test_diffusers_and_the_library_load_it_by_its_name(pushed, tiny_pipeline):
    _, said = pushed
    images = tiny_pipeline([3], [0], num_inference_steps=2, output_type="pt").images
    assert said["opened"] == ["ldm", pytest.approx(images.sum().item(), rel=1e-6)]
    assert said["image"] == pytest.approx(images.sum().item(), rel=1e-6)
    assert said["address"].endswith(NAME)


def test_a_name_of_somebody_else_is_refused_in_a_sentence(pushed):
    _, said = pushed
    assert said["not mine"].startswith(
        "the Hub does not let this token write somebody/run (403): give a name of your own"
    )
    assert said["not mine"].endswith("run somebody/run` tries again")
    assert "\n" not in said["not mine"]


@pytest.fixture
def signed_in(monkeypatch):
    monkeypatch.setattr(module, "get_token", lambda: TOKEN)


@pytest.mark.usefixtures("signed_in")
def test_without_a_network_the_run_stays_and_the_command_that_tries_again_is_said(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(
        PushFailed, match=r"me/run cannot be pushed .*the run is whole in .*`python train/push.py .* me/run`"
    ):
        push(run, "me/run")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["run", "a/b/c", "me/ru n", "", "me/..", "x" * 300])
def test_a_name_that_is_none_is_refused_before_any_work(run, monkeypatch, name):
    monkeypatch.setattr(module, "files_to_push", lambda *_: pytest.fail("it reads the run"))
    with pytest.raises(ValueError, match="is no name of a repository: give OWNER/NAME") as refused:
        push(run, name)
    assert "\n" not in str(refused.value)


def test_without_a_token_it_is_said_how_to_get_one(run, monkeypatch):
    monkeypatch.setattr(module, "get_token", lambda: None)
    with pytest.raises(ValueError, match="needs its token: sign in with `hf auth login`, or set HF_TOKEN"):
        push(run, "me/run")


def test_a_folder_without_the_mark_or_with_a_link_in_it_is_refused(run, tmp_path):
    unmarked = shutil.copytree(run, tmp_path / "unmarked", ignore=shutil.ignore_patterns(".ldm-explorer"))
    with pytest.raises(ValueError, match="has no mark of a run of ours"):
        files_to_push(unmarked, "me/run")
    linked = shutil.copytree(run, tmp_path / "linked")
    (linked / "train_log.jsonl").unlink()
    (linked / "train_log.jsonl").symlink_to(run / "diary.txt")
    with pytest.raises(FolderRefused, match=r"train_log.jsonl is there, and this run did not write it"):
        files_to_push(linked, "me/run")
    (linked / "train_log.jsonl").unlink()
    shutil.rmtree(linked / "unet")
    with pytest.raises(ValueError, match=r"it has no .*config.json"):
        files_to_push(linked, "me/run")


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_says_what_the_hub_reads_and_what_is_known(run, tmp_path):
    card = run_card(run)
    assert metadata(card) == {
        "license": "unknown",
        "library_name": "diffusers",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["ldm-explorer", "latent-diffusion"],
    }
    assert "home-of-jane" not in card
    assert "![Samples](samples.png)" in card
    assert "The validation loss" not in card, "its latents have no statistics, and so no floors"
    assert "No other measures were taken." in card
    folder = shutil.copytree(run, tmp_path / "run")
    write_json(folder / "train_config.json", {"dataset": "fashion_mnist", "license": "mit", "class_labels": True})
    measures = {"generation": {"num_images": 10_000, "fd_percent": 1.25, "fd_floor_percent": 0.0374}}
    update_metrics(folder, "evaluation", measures)
    card = run_card(folder, "me/run")
    assert (metadata(card)["license"], metadata(card)["datasets"]) == ("mit", ["fashion_mnist"])
    assert 'from_pretrained("me/run", custom_pipeline="me/run", trust_remote_code=True)' in card
    assert "| checkpoint | FD % | floor of FD % |\n| --- | --- | --- |\n| run | 1.25 | 0.0374 |" in card


def test_a_run_with_floors_says_its_loss_beside_them(run_with_losses):
    folder = run_with_losses([0.9, 0.7]).folder
    update_metrics(folder, "training", COST)
    assert "The validation loss ended at 0.700, " in run_card(folder)


def test_images_that_are_padded_for_the_network_are_said_to_be(run, color_folder, tmp_path):
    said = " Its images are 32x32, as the network pads them; `train/sample.py` crops them to their 28x28."
    in_colour = shutil.copytree(color_folder, tmp_path / "color")
    update_metrics(in_colour, "training", COST)
    assert "as the network pads them" not in run_card(in_colour), "they are of its side"
    folder = shutil.copytree(run, tmp_path / "run")
    write_json(folder / "train_config.json", {"dataset": "fashion_mnist"})
    card = run_card(folder, license="mit")
    assert said in card
    assert metadata(card)["license"] == "mit"


def test_an_autoencoder_says_what_comes_back(vae_folder, tmp_path):
    folder = shutil.copytree(vae_folder, tmp_path / "vae-run")
    update_metrics(folder, "training", COST | {"validation_psnr_db": 31.456})
    card = run_card(folder)
    assert "Validation images come back with 31.46 dB PSNR." in card
    assert metadata(card).keys() == {"license", "library_name", "tags"}
    assert "from_pretrained" not in card


def test_the_grid_is_the_last_frame_of_the_film_enlarged(run):
    grid = Image.open(run / SAMPLES_FILE)
    assert (grid.mode, grid.size) == ("RGB", (5 * 29 * 4 + 4, 3 * 29 * 4 + 4))
    assert grid.getpixel((10, 10)) == (250, 250, 250), "step 5 of the film"


PLACES = {
    "/home/jane/runs/vae": "vae",
    "~/vae": "vae",
    "../../jane/vae": "vae",
    "C:\\Users\\jane\\vae": "vae",
    "folder:/home/jane/pictures": "folder:pictures",
    "accelerate launch train/ldm.py --vae '/home/jane d/vae' --dataset=folder:/p/pictures --widths 3": (
        "accelerate launch train/ldm.py --vae vae --dataset=folder:pictures --widths 3"
    ),
    "checkpoints/fashion_mnist/vae-8x8x4": "checkpoints/fashion_mnist/vae-8x8x4",
    "2.14.1+cu130": "2.14.1+cu130",
    "v_prediction": "v_prediction",
}


def test_a_place_on_this_machine_becomes_a_name_and_all_else_stays():
    assert without_places(list(PLACES)) == list(PLACES.values())
    assert without_places({"a": {"b": [1, None, True, 0.5, "/x/y"]}}) == {"a": {"b": [1, None, True, 0.5, "y"]}}


@pytest.mark.parametrize("name", ["", "MIT License", "mit\nlibrary_name: x", "-"])
def test_a_license_that_is_no_identifier_is_refused(name):
    with pytest.raises(ValueError, match=r"give an identifier of the Hub, as mit or cc-by-4.0"):
        FitConfig(license=name)
