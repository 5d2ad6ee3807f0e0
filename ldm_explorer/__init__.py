"""Train small latent diffusion models and look inside them.

What a notebook needs stands here, documented where it is defined and shown in docs/python.md. Importing the package
loads none of it: each name is fetched from its module when it is first asked for (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
    from ldm_explorer.data import load_split
    from ldm_explorer.diagnosis.denoisers import denoiser_of
    from ldm_explorer.diagnosis.floors import loss_floors
    from ldm_explorer.diagnosis.reading import read_loss
    from ldm_explorer.evaluation.images import evaluate_images
    from ldm_explorer.evaluation.reconstruction import reconstruct
    from ldm_explorer.explore.diagnosis import diagnose_folder
    from ldm_explorer.pipeline import to_pil
    from ldm_explorer.sources import open_source
    from ldm_explorer.training.run import train
    from ldm_explorer.training.tasks.autoencoder import AutoencoderTraining, VAETrainConfig
    from ldm_explorer.training.tasks.denoiser import DenoiserTraining
    from ldm_explorer.training.tasks.denoiser_config import LDMTrainConfig

__all__ = [
    "AutoencoderTraining",
    "Checkpoint",
    "DenoiserTraining",
    "LDMTrainConfig",
    "VAETrainConfig",
    "denoiser_of",
    "diagnose_folder",
    "evaluate_images",
    "load_split",
    "loss_floors",
    "open_source",
    "read_checkpoint",
    "read_loss",
    "reconstruct",
    "to_pil",
    "train",
]

_OWNERS = {
    "AutoencoderTraining": "training.tasks.autoencoder",
    "Checkpoint": "checkpoints",
    "DenoiserTraining": "training.tasks.denoiser",
    "LDMTrainConfig": "training.tasks.denoiser_config",
    "VAETrainConfig": "training.tasks.autoencoder",
    "denoiser_of": "diagnosis.denoisers",
    "diagnose_folder": "explore.diagnosis",
    "evaluate_images": "evaluation.images",
    "load_split": "data",
    "loss_floors": "diagnosis.floors",
    "open_source": "sources",
    "read_checkpoint": "checkpoints",
    "read_loss": "diagnosis.reading",
    "reconstruct": "evaluation.reconstruction",
    "to_pil": "pipeline",
    "train": "training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _OWNERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_OWNERS[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
