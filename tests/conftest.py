"""What every test shares: one thread, no network, tiny networks, tiny images, and tiny checkpoint folders."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "true"

import json
import math
import shutil
import socket
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DModel
from diffusers.utils import dynamic_modules_utils
from helpers import NUM_CLASSES, RUN_CONFIG, build_seeded, denoiser_records, draw_shapes, write_log
from toy_training import CONFIG

from ldm_explorer.atomic import write_json
from ldm_explorer.checkpoints import Checkpoint, read_checkpoint, save_pipeline, save_vae
from ldm_explorer.data import FASHION_MNIST_SYSTEM_DIR, DatasetSpec, ImageSet
from ldm_explorer.diagnosis.statistics import LatentStatistics, write_statistics
from ldm_explorer.examples import write_examples
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.film import FilmFrame, write_frame
from ldm_explorer.latents import Posterior, measure_statistics
from ldm_explorer.models import TransformerConfig, UNetConfig, VAEConfig
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.run_files import write_spec
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import FlowSchedule, make_schedule
from ldm_explorer.training import make_accelerator

LATENT_SHAPE = (4, 8, 8)


LONGEST = ("test_train_commands", "test_several_processes", "test_page", "test_kill", "test_app")
"""Modules that come first: begun last, each would leave the other workers idle, as one worker runs all of a module."""


def pytest_collection_modifyitems(items):
    items.sort(
        key=lambda item: LONGEST.index(item.module.__name__) if item.module.__name__ in LONGEST else len(LONGEST)
    )


@pytest.fixture(scope="module", autouse=True)
def _one_thread_for_fixtures():
    """What a module's fixtures compute comes before its first test."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread(_one_thread_for_fixtures):
    """Also after a test that trained, which takes as many as there are: sums come out otherwise by as many."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_network():
    """Connections to other machines fail at once; this one may be talked to."""
    connect = socket.socket.connect

    def local_only(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests have no network, and tried {address}")
        return connect(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", local_only)
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def _own_code_cache(tmp_path_factory):
    """diffusers copies a folder's code before it runs it: not to where another worker does so, too."""
    patch = pytest.MonkeyPatch()
    patch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
    yield
    patch.undo()


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps its state in singletons: a test that makes an Accelerator starts and ends without any."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def accelerator(fresh_accelerate, tmp_path) -> Accelerator:  # noqa: ARG001 (a fixture cannot be marked usefixtures)
    return make_accelerator(CONFIG, tmp_path)


@pytest.fixture(scope="session")
def fashion_mnist_dir() -> Path:
    """The four real files."""
    if not FASHION_MNIST_SYSTEM_DIR.is_dir():
        missing = f"{FASHION_MNIST_SYSTEM_DIR} is missing: install it with `apt-get install dataset-fashion-mnist`"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return FASHION_MNIST_SYSTEM_DIR


@pytest.fixture(scope="session")
def shapes() -> ImageSet:
    return draw_shapes(200, seed=0)


@pytest.fixture(scope="session")
def other_shapes() -> ImageSet:
    """From the same distribution, drawn apart: for validation."""
    return draw_shapes(50, seed=1)


@pytest.fixture(scope="session")
def tiny_vae(shapes) -> AutoencoderKL:
    channels, side, _ = LATENT_SHAPE
    vae = build_seeded(VAEConfig(latent_size=side, latent_channels=channels, widths=(16,)))
    measure_statistics(vae, shapes.images)
    return vae


@pytest.fixture(scope="session")
def tiny_unet() -> UNet2DModel:
    channels, side, _ = LATENT_SHAPE
    return build_seeded(UNetConfig(side, channels, NUM_CLASSES, widths=(16, 32), layers_per_block=1))


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_vae, tiny_unet) -> LatentDiffusionPipeline:
    scheduler = make_scheduler(make_schedule("cosine"), "v_prediction")
    pipeline = LatentDiffusionPipeline(tiny_vae, tiny_unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def vae_folder(tiny_vae, tmp_path_factory) -> Path:
    """A checkpoint folder that holds an autoencoder. Read only: copy it to change it."""
    folder = tmp_path_factory.mktemp("vae") / "fashion_mnist" / "tiny-vae"
    save_vae(folder, tiny_vae)
    return folder


@pytest.fixture(scope="session")
def ldm_folder(tiny_pipeline, tmp_path_factory) -> Path:
    """A checkpoint folder that holds a pipeline. Read only: copy it to change it."""
    folder = tmp_path_factory.mktemp("ldm") / "fashion_mnist" / "tiny-ldm"
    save_pipeline(folder, tiny_pipeline.vae, tiny_pipeline.unet, tiny_pipeline.scheduler)
    for step in (1, 2, 4, 5):
        write_frame(folder, FilmFrame(step, torch.full((12, 1, 28, 28), 50 * step, dtype=torch.uint8)))
    records = (json.dumps(record) + "\n" for record in denoiser_records(5))
    (folder / "train_log.jsonl").write_text("".join(records))
    return folder


@pytest.fixture(scope="session")
def flow_folder(tiny_pipeline, tmp_path_factory) -> Path:
    """A checkpoint folder that holds a flow, of the same networks as `ldm_folder`. Read only: copy it to change it."""
    folder = tmp_path_factory.mktemp("flow") / "fashion_mnist" / "tiny-flow"
    save_pipeline(folder, tiny_pipeline.vae, tiny_pipeline.unet, make_scheduler(FlowSchedule(1000), "flow"))
    write_json(folder / "train_config.json", RUN_CONFIG | {"schedule": "flow", "prediction": "flow"})
    write_log(folder, denoiser_records(5))
    write_statistics(folder, uneven_statistics())
    return folder


@pytest.fixture(scope="session")
def tiny_transformer() -> DiTTransformer2DModel:
    """One that answers something, as after its first steps: it begins with zeros."""
    channels, side, _ = LATENT_SHAPE
    network = build_seeded(TransformerConfig(side, channels, NUM_CLASSES, width=32, depth=2, patch_size=2))
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).mul(0.1).half())
    return network


@pytest.fixture(scope="session")
def transformer_folder(tiny_vae, tiny_transformer, tmp_path_factory) -> Path:
    """A checkpoint folder that holds a transformer, of the same autoencoder as `ldm_folder`. Read only."""
    folder = tmp_path_factory.mktemp("transformer") / "fashion_mnist" / "tiny-transformer"
    save_pipeline(folder, tiny_vae, tiny_transformer, make_scheduler(make_schedule("cosine"), "v_prediction"))
    write_json(folder / "train_config.json", RUN_CONFIG | {"network": "transformer"})
    write_log(folder, denoiser_records(5))
    write_statistics(folder, uneven_statistics())
    return folder


@pytest.fixture(scope="session")
def color_folder(tmp_path_factory) -> Path:
    """A checkpoint folder that holds a pipeline over colour images of two classes of somebody's own."""
    folder = tmp_path_factory.mktemp("color") / "pictures" / "tiny-color"
    spec = DatasetSpec(channels=3, side=16, model_side=16, class_names=("green", "red"), background=0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 16, 16), generator=generator, dtype=torch.uint8)
    vae = build_seeded(VAEConfig(latent_size=8, latent_channels=2, image_side=16, image_channels=3, widths=(16,)))
    measure_statistics(vae, images)
    unet = build_seeded(UNetConfig(8, 2, spec.num_classes, widths=(16, 32), layers_per_block=1))
    save_pipeline(folder, vae, unet, make_scheduler(make_schedule("cosine"), "v_prediction"))
    write_spec(folder, spec)
    write_examples(folder, ImageSet(images, torch.arange(8) % 2), spec)
    (folder / "train_config.json").write_text(json.dumps({"dataset": "folder:pictures"}))
    return folder


def uneven_statistics() -> LatentStatistics:
    """Of 30 latents in 3 classes; half of the values vary little, and less within a class."""
    values = math.prod(LATENT_SHAPE)
    generator = torch.Generator().manual_seed(0)
    eigenvalues = torch.tensor([0.1] * (values // 2) + [1.9] * (values // 2))
    mean = torch.randn(30, *LATENT_SHAPE, generator=generator)
    return LatentStatistics(
        mean=torch.zeros(values),
        covariance=eigenvalues.diag(),
        eigenvalues=eigenvalues,
        channel_variances=torch.ones(LATENT_SHAPE[0]),
        class_eigenvalues=(eigenvalues * 0.8).expand(3, -1),
        memorising_timesteps=torch.tensor([0, 500, 999]),
        memorising=torch.tensor([0.001, 0.1, 0.5]),
        class_memorising=torch.tensor([0.001, 0.05, 0.4]),
        subset=Posterior(mean, torch.full_like(mean, 0.1)),
        subset_labels=torch.arange(30) % 3,
    )


@pytest.fixture
def write_run(tmp_path):
    """Writes the folder of a run that has no weights yet."""

    def write(name: str, records: list[dict], **config) -> Path:
        folder = tmp_path / "fashion_mnist" / name
        folder.mkdir(parents=True)
        write_json(folder / "train_config.json", RUN_CONFIG | config)
        write_log(folder, records)
        return folder

    return write


@pytest.fixture
def run_with_losses(ldm_folder, tmp_path):
    """Writes a checkpoint folder with a log of the given validation losses and an uneven latent covariance."""

    def write(losses: list[float]) -> Checkpoint:
        folder = tmp_path / "fashion_mnist" / "run"
        shutil.copytree(ldm_folder, folder)
        with (folder / "train_log.jsonl").open("w") as log:
            for step, loss in enumerate(losses, start=1):
                line = {"step": step, "images": 100 * step, "loss": loss, "validation_loss": loss}
                log.write(json.dumps(line | {"validation_loss_per_bin": [loss] * 10}) + "\n")
        write_statistics(folder, uneven_statistics())
        return read_checkpoint(folder)

    return write


@pytest.fixture(scope="module")
def browser():
    """A Chromium, which every test opens a page of its own in."""
    playwright = pytest.importorskip("playwright.sync_api")
    from screenshots import launch_chromium

    with playwright.sync_playwright() as running:
        try:
            chromium = launch_chromium(running)
        except playwright.Error as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no Chromium: `apt-get install chromium` or `playwright install chromium` ({error})")
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def library(ldm_folder, vae_folder) -> Library:
    """A denoiser and an autoencoder of grey images."""
    return open_library(ldm_folder.parents[1], vae_folder.parents[1])


@pytest.fixture(scope="module")
def mixed_library(ldm_folder, color_folder) -> Library:
    """A denoiser of grey images, and one of others in colour."""
    return open_library(ldm_folder.parents[1], color_folder.parents[1])
