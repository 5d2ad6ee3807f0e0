"""Models of somebody else's script: none is accused of what is not wrong, and what is put into one is named first.

Trains a pixel and a latent model by `plain_diffusers.py` into FOLDER, unless they are there; diagnoses both with and
without images; then edits one value of a file at a time. `python benchmarks/foreign.py FOLDER`
"""

import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from folder_edits import FolderFault, edit_json, one_nan, scheduler, swap_channels, weights
from PIL import Image

from ldm_explorer.data import DATASETS
from ldm_explorer.diagnosis.verdicts import Diagnosis
from ldm_explorer.explore.diagnosis import diagnose_folder
from ldm_explorer.schedules import make_schedule

SCRIPT = Path(__file__).with_name("plain_diffusers.py")
IMAGES = 300
NEEDED_SHARE = 11 / 12
TRAP = "clipping"
"""What the script's latent model has to be accused of: DDPMScheduler clips unless told otherwise."""


def config(part: str, **changes) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / part / "config.json", **changes)


OF_BOTH = {
    "prediction_type v_prediction": FolderFault(scheduler(prediction_type="v_prediction"), "prediction_type"),
    "prediction_type sample": FolderFault(scheduler(prediction_type="sample"), "prediction_type"),
    "beta_schedule scaled_linear": FolderFault(scheduler(beta_schedule="scaled_linear"), "schedule_by_behaviour"),
    "beta_schedule squaredcos": FolderFault(scheduler(beta_schedule="squaredcos_cap_v2"), "schedule_by_behaviour"),
    "num_train_timesteps 500": FolderFault(scheduler(num_train_timesteps=500), "schedule_by_behaviour"),
    "beta_end .05": FolderFault(scheduler(beta_end=0.05), "schedule_by_behaviour"),
    "trained_betas cut": FolderFault(scheduler(trained_betas=make_schedule("linear").betas[:600].tolist()), "schedule"),
    "rescale_betas_zero_snr": FolderFault(scheduler(rescale_betas_zero_snr=True), "terminal_snr"),
    "flip_sin_to_cos": FolderFault(config("unet", flip_sin_to_cos=False), "network_config"),
    "freq_shift": FolderFault(config("unet", freq_shift=1), "network_config"),
    "norm_num_groups": FolderFault(config("unet", norm_num_groups=8), "network_config"),
    "NaN in the UNet": FolderFault(weights("unet", "mid_block.resnets.1.conv2.weight", one_nan), "finite"),
    "time embedding of zeros": FolderFault(weights("unet", "time_embedding", torch.zeros_like), "time_response"),
    "output x 1.5": FolderFault(weights("unet", "conv_out", lambda rows: 1.5 * rows), "output_scale"),
}
OF_LATENTS = {
    "clip_sample": FolderFault(scheduler(clip_sample=True), "clipping"),
    "thresholding": FolderFault(scheduler(thresholding=True), "clipping"),
    "scaling_factor .18215": FolderFault(config("vae", scaling_factor=0.18215), "latent_scale"),
    "scaling_factor 3": FolderFault(config("vae", scaling_factor=3.0), "latent_scale"),
    "latent channels swapped": FolderFault(swap_channels, "channel_order"),
    "class embedding of zeros": FolderFault(weights("unet", "class_embedding", torch.zeros_like), "label_response"),
    "class embedding rolled": FolderFault(
        weights("unet", "class_embedding.weight", lambda rows: rows.roll(1, 0)), "labels_match"
    ),
    "encoder collapsed": FolderFault(weights("vae", "quant_conv", torch.zeros_like), "collapse"),
    "NaN in the autoencoder": FolderFault(weights("vae", "decoder.conv_out.weight", one_nan), "finite"),
}


def write_images(folder: Path) -> None:
    """Test images in subfolders that are named by label."""
    images, labels = DATASETS["fashion_mnist"].load(None, "test")
    for index, (image, label) in enumerate(zip(images[:IMAGES], labels[:IMAGES].tolist(), strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / str(label) / f"{index}.png")


def names(diagnosis: Diagnosis) -> list[str]:
    return [cause.name for cause in diagnosis.causes]


def main(place: Path) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    for kind in ("pixels", "latents"):
        if not (place / kind).exists():
            subprocess.run([sys.executable, SCRIPT, kind, place / kind], check=True)
    if not (place / "images").exists():
        write_images(place / "images")
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(not _examine(place, Path(folder)))


def _examine(place: Path, scratch: Path) -> bool:
    wanted = {"pixels": [], "latents": [TRAP]}
    for kind, accused in wanted.items():
        for images in (None, place / "images"):
            diagnosis = diagnose_folder(place / kind, images)
            print(f"{kind}, {'with' if images else 'without'} images: {diagnosis.sentence()}")
            if set(names(diagnosis)) - set(accused) or (images and names(diagnosis) != accused):
                print(f"    accused: {names(diagnosis)}, should be {accused}")
    found = [
        _is_first(place, scratch, kind, name, fault)
        for kind, faults in {"pixels": OF_BOTH, "latents": OF_BOTH | OF_LATENTS}.items()
        for name, fault in faults.items()
    ]
    print(f"{sum(found)} of {len(found)} named first")
    return sum(found) >= NEEDED_SHARE * len(found)


def _is_first(place: Path, scratch: Path, kind: str, name: str, fault: FolderFault) -> bool:
    folder = scratch / name
    shutil.copytree(place / kind, folder)
    if kind == "latents":
        scheduler(clip_sample=False)(folder)  # what the model as it was trained is accused of
    fault.inject(folder)
    found = names(diagnose_folder(folder, place / "images"))
    shutil.rmtree(folder)
    print(
        f"{kind:8} {name:30} {'' if found[:1] == [fault.cause] else 'MISSED':7} {', '.join(found) or '-'}", flush=True
    )
    return found[:1] == [fault.cause]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
