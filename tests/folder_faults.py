"""Faults that live in a folder, one entry each: an edit of a copied checkpoint, and the check that names the cause."""

from collections.abc import Callable
from pathlib import Path

import torch
from folder_edits import FolderFault, latent_statistics, one_nan, scheduler, swap_channels_and_statistics, weights

from ldm_explorer.schedules import make_schedule


def schedule(name: str, *arguments) -> Callable[[Path], None]:
    made = make_schedule(name, *arguments)
    return scheduler(trained_betas=made.betas.tolist(), num_train_timesteps=made.num_timesteps)


def latents_std(change: Callable[[float], float] | None) -> Callable[[Path], None]:
    return latent_statistics(lambda mean, std: (mean, None if change is None else [change(value) for value in std]))


def never_trained(folder: Path) -> None:
    """As train/ldm.py begins: diffusers' own initialisation."""
    from diffusers import UNet2DModel

    torch.manual_seed(11)
    network = UNet2DModel.from_config(UNet2DModel.load_config(folder / "unet"))
    for path in (folder / "unet").glob("*.safetensors*"):
        path.unlink()
    network.save_pretrained(folder / "unet", safe_serialization=True)


def forgotten_record(inject: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same fault in a folder that does not say how it was trained."""

    def without(folder: Path) -> None:
        inject(folder)
        (folder / "train_config.json").unlink()

    return without


FAULTS: dict[str, FolderFault] = {
    "clip_sample": FolderFault(scheduler(clip_sample=True, clip_sample_range=1.5), "clipping"),
    "schedule scaled_linear": FolderFault(schedule("scaled_linear", 1000, 0.00085, 0.012), "schedule"),
    "schedule beta_end .03": FolderFault(schedule("linear", 1000, 1e-4, 0.03), "schedule"),
    "schedule T = 400": FolderFault(schedule("cosine", 400), "schedule"),
    "num_train_timesteps alone": FolderFault(scheduler(num_train_timesteps=1500), "schedule"),
    "schedule without a record": FolderFault(
        forgotten_record(schedule("linear", 1000, 1e-4, 0.05)), "schedule_by_behaviour"
    ),
    "prediction epsilon": FolderFault(scheduler(prediction_type="epsilon"), "prediction_type"),
    "prediction sample": FolderFault(scheduler(prediction_type="sample"), "prediction_type"),
    "prediction without a record": FolderFault(
        forgotten_record(scheduler(prediction_type="sample")), "prediction_type"
    ),
    "latents_std of ones": FolderFault(latents_std(lambda _: 1.0), "latent_scale"),
    "latents_std missing": FolderFault(latents_std(None), "latent_scale"),
    "latents_std x 0.6": FolderFault(latents_std(lambda std: 0.6 * std), "latent_scale"),
    "latents_std squared": FolderFault(latents_std(lambda std: std**2), "latent_scale"),
    # a fault along cosine alone: along linear betas next to nothing is left of the image where 10 steps start
    "leading": FolderFault(scheduler(timestep_spacing="leading", steps_offset=1), "spacing"),
    "NaN in the UNet": FolderFault(weights("unet", "mid_block.resnets.1.conv2.weight", one_nan), "finite"),
    "NaN in the autoencoder": FolderFault(weights("vae", "encoder.conv_out.weight", one_nan), "finite"),
    "class embedding of zeros": FolderFault(weights("unet", "class_embedding", torch.zeros_like), "label_response"),
    "class embedding rolled": FolderFault(
        weights("unet", "class_embedding.weight", lambda rows: rows.roll(-1, 0)), "labels_match"
    ),
    "time embedding of zeros": FolderFault(weights("unet", "time_embedding", torch.zeros_like), "time_response"),
    "UNet never trained": FolderFault(never_trained, "learned"),
    "autoencoder's channels swapped": FolderFault(swap_channels_and_statistics, "channel_order"),
    "encoder collapsed": FolderFault(weights("vae", "quant_conv", torch.zeros_like), "collapse"),
}
"""Each has one fault, with other parameters than the checks were built with."""
