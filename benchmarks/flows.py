"""Flows and transformers: no healthy folder is accused of anything, and what is put into one is named first.

Edits copies of run folders, one fault at a time: of a UNet along a flow, of transformers along betas or a flow. Each is
examined as the run left it, and as others leave theirs: without a record, a log and stored latents, and with images. A
run whose latents were not normalised in training has its fault already.
`python benchmarks/flows.py FOLDER ...`
"""

import json
import logging
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from folder_edits import (
    FolderFault,
    edit_json,
    edit_weights,
    latent_statistics,
    one_nan,
    scheduler,
    swap_channels_and_statistics,
    weights,
)
from foreign import names, write_images
from safetensors.torch import load_file
from torch import Tensor

from ldm_explorer.explore.diagnosis import diagnose_folder
from ldm_explorer.networks import NETWORKS
from ldm_explorer.run_layout import (
    CONFIG_FILE,
    LOG_FILE,
    METRICS_FILE,
    SCHEDULER_FILE,
    STATISTICS_FILE,
    TRANSFORMER,
    UNET,
    VAE,
    config_of,
)
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import FlowSchedule, Schedule, make_schedule

Edit = Callable[[Path], None]

NEEDED_SHARE = 0.9
RECORD = (CONFIG_FILE, LOG_FILE, METRICS_FILE, STATISTICS_FILE)
RAW = "latents not normalised in training"
WITHOUT_A_RECORD = {"schedule": "schedule_by_behaviour"}
"""The check that finds by behaviour what another reads in the record."""


def sampled_along(schedule: Schedule, prediction_type: str) -> Edit:
    """The scheduler of another path, in the place of the folder's."""

    def edit(folder: Path) -> None:
        made = make_scheduler(schedule, prediction_type)
        (folder / SCHEDULER_FILE).write_text(json.dumps({**made.config, "_class_name": type(made).__name__}))

    return edit


def within(part: str, fragment: str, change: Callable[[Tensor], Tensor]) -> Edit:
    """All weights that have a fragment in their names."""
    return lambda folder: edit_weights(
        folder / part, lambda name, tensor: (change(tensor) if fragment in name else tensor).contiguous()
    )


def config(part: str, **changes) -> Edit:
    return lambda folder: edit_json(folder / config_of(part), **changes)


def all_of(*edits: Edit) -> Edit:
    def edit(folder: Path) -> None:
        for one in edits:
            one(folder)

    return edit


def told_the_other_way(frequencies: int, shift: int) -> Callable[[Tensor], Tensor]:
    """The layer that sees cos(w t) and sin(w t) answers to T - t as it did to t: those of it are a rotation of them."""
    w = torch.exp(-math.log(10000) * torch.arange(frequencies) / (frequencies - shift))
    cos, sin = (w * 1000).cos(), (w * 1000).sin()

    def change(rows: Tensor) -> Tensor:
        of_cos, of_sin = rows.float().split(frequencies, 1)
        return torch.cat([of_cos * cos + of_sin * sin, of_cos * sin - of_sin * cos], 1).to(rows.dtype)

    return change


def reversed_time(folder: Path) -> None:
    """Weights as of a training with data at s = 1."""
    part = next(part for part in NETWORKS if (folder / part).exists())
    name, shift = TIME[part]
    stored = [load_file(path) for path in (folder / part).glob("*.safetensors")]
    rows = next(tensor for tensors in stored for key, tensor in tensors.items() if key.endswith(name))
    edit = within(part, name, told_the_other_way(rows.shape[1] // 2, shift))
    all_of(edit, within(part, LAST[part], torch.neg))(folder)


LAST = {UNET: "conv_out.", TRANSFORMER: "proj_out_2."}
LABELS = {UNET: "class_embedding.", TRANSFORMER: "class_embedder."}
TIME = {UNET: ("time_embedding.linear_1.weight", 0), TRANSFORMER: ("timestep_embedder.linear_1.weight", 1)}
"""The layer that sees the waves of t, and by how much their frequencies are apart from those of a paper."""

COSINE, FLOW = make_schedule("cosine"), FlowSchedule(1000)
ALONG_A_FLOW = {
    "sampled along cosine, u read as v": FolderFault(sampled_along(COSINE, "v_prediction"), "path"),
    "sampled along linear betas as epsilon": FolderFault(sampled_along(make_schedule("linear"), "epsilon"), "path"),
    "u read as epsilon": FolderFault(sampled_along(FLOW, "epsilon"), "prediction_type"),
    "u read as z0": FolderFault(sampled_along(FLOW, "sample"), "prediction_type"),
    "num_train_timesteps 250": FolderFault(scheduler(num_train_timesteps=250), "schedule"),
    "shift 36": FolderFault(scheduler(shift=36.0), "spacing"),
    "time reversed": FolderFault(reversed_time, "path"),
}
ALONG_BETAS = {
    "sampled along a flow, v read as u": FolderFault(sampled_along(FLOW, "flow"), "path"),
    "v read as epsilon": FolderFault(scheduler(prediction_type="epsilon"), "prediction_type"),
    "v read as z0": FolderFault(scheduler(prediction_type="sample"), "prediction_type"),
    "linear betas": FolderFault(sampled_along(make_schedule("linear"), "v_prediction"), "schedule"),
    "T = 400": FolderFault(sampled_along(make_schedule("cosine", 400), "v_prediction"), "schedule"),
    "clip_sample": FolderFault(scheduler(clip_sample=True), "clipping"),
    "leading": FolderFault(scheduler(timestep_spacing="leading"), "spacing"),
}
OF_A_UNET = {
    "freq_shift": FolderFault(config(UNET, freq_shift=1), "network_config"),
    "flip_sin_to_cos": FolderFault(config(UNET, flip_sin_to_cos=False), "network_config"),
    "norm_num_groups": FolderFault(config(UNET, norm_num_groups=8), "network_config"),
}
OF_A_TRANSFORMER = {
    "one head": FolderFault(config(TRANSFORMER, num_attention_heads=1, attention_head_dim=96), "network_config"),
    "six heads": FolderFault(config(TRANSFORMER, num_attention_heads=6, attention_head_dim=16), "network_config"),
}
OF_LATENTS = {
    "latents_std missing": FolderFault(latent_statistics(lambda mean, std: (None, None)), "latent_scale"),
    "latents_std squared": FolderFault(
        latent_statistics(lambda mean, std: (mean, [value**2 for value in std])), "latent_scale"
    ),
    "latents_std x .6": FolderFault(
        latent_statistics(lambda mean, std: (mean, [0.6 * value for value in std])), "latent_scale"
    ),
    "autoencoder's channels swapped": FolderFault(swap_channels_and_statistics, "channel_order"),
    "encoder collapsed": FolderFault(weights(VAE, "quant_conv", torch.zeros_like), "collapse"),
}


def of_weights(part: str) -> dict[str, FolderFault]:
    rolled = within(part, LABELS[part], lambda rows: torch.cat([rows[:-1].roll(1, 0), rows[-1:]]))
    return {
        "NaN": FolderFault(within(part, LAST[part] + "weight", one_nan), "finite"),
        "time embedding of zeros": FolderFault(within(part, TIME[part][0], torch.zeros_like), "time_response"),
        "label embedding of zeros": FolderFault(within(part, LABELS[part], torch.zeros_like), "label_response"),
        "labels rolled": FolderFault(rolled, "labels_match"),
        "output x 1.5": FolderFault(within(part, LAST[part], lambda rows: 1.5 * rows), "output_scale"),
        "output x -1": FolderFault(within(part, LAST[part], torch.neg), "path"),
    }


def faults_of(folder: Path) -> dict[str, FolderFault]:
    """Those that such a folder can have; the one that it has where its latents were not normalised in training."""
    record = json.loads((folder / CONFIG_FILE).read_text())
    if not record.get("normalise_latents", True):
        return {RAW: FolderFault(lambda _: None, "latent_scale")}
    part = next(part for part in NETWORKS if (folder / part).exists())
    of_network = OF_A_TRANSFORMER if part == TRANSFORMER else OF_A_UNET
    of_path = ALONG_A_FLOW if record["schedule"] == FLOW.name else ALONG_BETAS
    return of_path | of_weights(part) | of_network | OF_LATENTS


def examined(folder: Path, fault: FolderFault | None, images: Path | None, scratch: Path) -> list[str]:
    """The causes that are named in a copy with a fault, without its record where images are given."""
    copy = scratch / folder.name
    shutil.copytree(folder, copy)
    if fault:
        fault.inject(copy)
    for name in RECORD if images else ():
        (copy / name).unlink(missing_ok=True)
    try:
        return names(diagnose_folder(copy, images))
    finally:
        shutil.rmtree(copy)


def is_accused(folder: Path, images: Path | None, scratch: Path) -> bool:
    """Whether anything is said of a folder as it is."""
    accused = examined(folder, None, images, scratch)
    print(f"{folder.name}, {'without' if images else 'with'} its record: {', '.join(accused) or 'nothing'}", flush=True)
    return bool(accused)


def named_first(folder: Path, images: Path | None, scratch: Path) -> Iterator[bool]:
    """Whether each of its faults is."""
    for name, fault in faults_of(folder).items():
        cause = WITHOUT_A_RECORD.get(fault.cause, fault.cause) if images else fault.cause
        named = examined(folder, fault, images, scratch)
        found = named[:1] == [cause]
        print(f"    {name:40} {'' if found else 'MISSED':7} {', '.join(named) or '-'}", flush=True)
        yield found


def main(folders: list[Path]) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    accused, named = [], []
    with tempfile.TemporaryDirectory() as place:
        scratch, images = Path(place), Path(place) / "images"
        write_images(images)
        for folder in folders:
            is_raw = RAW in faults_of(folder)
            for given in (None,) if is_raw else (None, images):
                if not is_raw:
                    accused.append(is_accused(folder, given, scratch))
                named += named_first(folder, given, scratch)
    print(f"{sum(named)} of {len(named)} named first, {sum(accused)} of {len(accused)} healthy accused")
    sys.exit(any(accused) or sum(named) < NEEDED_SHARE * len(named))


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
