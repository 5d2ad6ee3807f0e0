"""What every test shares: one thread, no network, tiny networks, tiny images, and tiny checkpoint folders."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "true"

import socket
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL, UNet2DModel
from torch import Tensor

from ldm_explorer.checkpoints import save_pipeline, save_vae
from ldm_explorer.data import FASHION_MNIST_SYSTEM_DIR, ImageSet
from ldm_explorer.latents import measure_statistics
from ldm_explorer.models import UNetConfig, VAEConfig
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import make_schedule

NUM_CLASSES = 10
LATENT_SHAPE = (4, 8, 8)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
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


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps its state in singletons: a test that makes an Accelerator starts and ends without any."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def fashion_mnist_dir() -> Path:
    """The four real files."""
    if not FASHION_MNIST_SYSTEM_DIR.is_dir():
        missing = f"{FASHION_MNIST_SYSTEM_DIR} is missing: install it with `apt-get install dataset-fashion-mnist`"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return FASHION_MNIST_SYSTEM_DIR


def draw_shapes(count: int, seed: int) -> ImageSet:
    """Grey rectangles on black, `(count, 1, 32, 32)`; the label says how tall they are."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % NUM_CLASSES
    images = torch.zeros(count, 1, 32, 32, dtype=torch.uint8)
    for image, label in zip(images, labels, strict=True):
        left, width, grey = (int(torch.randint(*bounds, (), generator=generator)) for bounds in RECTANGLE_BOUNDS)
        image[:, 4 : 8 + 2 * int(label), left : left + width] = grey
    return ImageSet(images, labels)


RECTANGLE_BOUNDS = ((3, 12), (6, 16), (80, 256))


@pytest.fixture(scope="session")
def shapes() -> ImageSet:
    return draw_shapes(200, seed=0)


@pytest.fixture(scope="session")
def other_shapes() -> ImageSet:
    """From the same distribution, drawn apart: for validation."""
    return draw_shapes(50, seed=1)


def build_seeded(config: VAEConfig | UNetConfig, seed: int = 0):
    """An untrained network whose weights fp16 holds exactly, so that saving it changes nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return config.build().half().float().eval().requires_grad_(False)


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
    return folder


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two state dicts hold the same tensors, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
