"""Small images, small networks and comparisons that several test files use."""

import json
from pathlib import Path

import torch
from torch import Tensor

from ldm_explorer.data import ImageSet
from ldm_explorer.models import TransformerConfig, UNetConfig, VAEConfig

NUM_CLASSES = 10
RUN_CONFIG = {
    "dataset": "fashion_mnist",
    "prediction": "v_prediction",
    "schedule": "cosine",
    "vae": "a",
    "max_steps": 50,
}
"""The options of a run of train/ldm.py that others ask about."""


def draw_shapes(count: int, seed: int) -> ImageSet:
    """Grey rectangles on black, `(count, 1, 32, 32)`; the label says how tall they are."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % NUM_CLASSES
    images = torch.zeros(count, 1, 32, 32, dtype=torch.uint8)
    bounds = ((3, 12), (6, 16), (80, 256))
    for image, label in zip(images, labels, strict=True):
        left, width, grey = (int(torch.randint(*bound, (), generator=generator)) for bound in bounds)
        image[:, 4 : 8 + 2 * int(label), left : left + width] = grey
    return ImageSet(images, labels)


def build_seeded(config: VAEConfig | UNetConfig | TransformerConfig, seed: int = 0):
    """An untrained network whose weights fp16 holds exactly, so that saving it changes nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return config.build().half().float().eval().requires_grad_(False)


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two state dicts hold the same tensors, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def denoiser_records(steps: int) -> list[dict]:
    """Lines of a log of train/ldm.py: 100 images a step, a loss of 1 / step, a validation after each."""
    return [
        {"step": step, "images": 100 * step, "learning_rate": 1e-3, "loss": 1 / step, "grad_norm": 0.5 / step}
        | {"validation_loss": 1 / step, "validation_loss_per_bin": [(1 + bin_ / 10) / step for bin_ in range(10)]}
        for step in range(1, steps + 1)
    ]


def autoencoder_records(steps: int = 4) -> list[dict]:
    """Lines of a log of train/vae.py: 64 images a step, a validation after each."""
    return [
        {"step": step, "images": 64 * step, "loss": 1 / step, "mse": 0.9 / step, "kl_per_value": 2.0, "grad_norm": 0.1}
        | {"validation_loss": 0.8 / step, "validation_psnr_db": 20.0 + step, "validation_kl_per_value": 2.5}
        for step in range(1, steps + 1)
    ]


def write_log(folder: Path, records: list[dict], ending: str = "") -> None:
    """Write the lines of a run's log, and whatever comes after them."""
    (folder / "train_log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + ending)
