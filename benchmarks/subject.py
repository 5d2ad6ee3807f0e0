"""A tiny run's folder with every kind of file that a run folder and its neighbours can have."""

import json
from pathlib import Path

import torch
from helpers import build_seeded, denoiser_records

from ldm_explorer.atomic import write_json
from ldm_explorer.checkpoints import save_model, save_pipeline
from ldm_explorer.data import DatasetSpec, ImageSet
from ldm_explorer.diagnosis.statistics import measure_latents, write_statistics
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.examples import write_examples
from ldm_explorer.film import FilmFrame, write_frame
from ldm_explorer.latents import LatentCodec, encode_posterior, measure_statistics
from ldm_explorer.models import UNetConfig, VAEConfig
from ldm_explorer.run_files import write_spec
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import make_schedule

RUN, LOG = "subject", "train_log.jsonl"
NUM_TIMESTEPS = 50


def write_subject(dataset: Path) -> Path:
    """Write `dataset/subject`, a tiny denoiser over pictures of two classes, with every file that a run can have, and
    beside it a classifier and the figures of seeds."""
    folder, spec = dataset / RUN, DatasetSpec(3, 16, 16, ("green", "red"), background=0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.arange(24) % 2
    vae = build_seeded(VAEConfig(latent_size=8, latent_channels=2, image_side=16, image_channels=3, widths=(16,)))
    measure_statistics(vae, images)
    unet = build_seeded(UNetConfig(8, 2, spec.num_classes, widths=(16, 32), layers_per_block=1))
    schedule = make_schedule("cosine", NUM_TIMESTEPS)
    save_pipeline(folder, vae, unet, make_scheduler(schedule, "v_prediction"))
    write_spec(folder, spec)
    write_examples(folder, ImageSet(images, labels), spec)
    posterior = encode_posterior(LatentCodec(vae), images)
    write_statistics(folder, measure_latents(posterior, labels, schedule.alpha_bars, spec.num_classes))
    for step in (1, 2, 4, 5):
        write_frame(folder, FilmFrame(step, images[:4]))
    (folder / LOG).write_text("".join(f"{json.dumps(record)}\n" for record in denoiser_records(25)))
    (folder / "README.md").write_text("# A run\n")
    write_json(folder / "train_config.json", _options())
    write_json(folder / "metrics.json", _figures())
    RunFolder(folder).write_json("state-000000005/progress.json", {"step": 5, "total_steps": 25})
    torch.manual_seed(0)
    save_model(FeatureNet(3, 2, (8, 16)).eval(), dataset / "features" / "features")
    write_json(dataset / "seeds.json", {"8x8x2": {"psnr_db": [20.0, 20.5], "fd_percent": [1.0, 1.1]}})
    return folder


def _options() -> dict:
    options = {
        "dataset": "folder:pictures",
        "image_side": 16,
        "max_steps": 25,
        "grad_clip_norm": 1.0,
        "kl_weight": 1e-4,
    }
    options |= {"schedule": "cosine", "prediction": "v_prediction", "num_timesteps": NUM_TIMESTEPS, "vae": "runs/vae"}
    return options | {"zero_terminal_snr": False, "class_labels": True, "normalise_latents": True, "widths": [16, 32]}


def _figures() -> dict:
    evaluation = {
        "reconstruction": {"psnr_db": 20.0, "ssim": 0.9, "pca_psnr_db": 18.0, "rfd_percent": 0.5},
        "continuity": {"ifd_percent": 0.7, "turn_error": 1.0, "high_share": None},
        "generation": {"sampler": "unipc", "evaluations": 10, "fd_percent": 1.0, "fd_percent_spread": 0.1},
        "cost": {"encode_gflops": 0.1, "decode_gflops": 0.2, "evaluation_gflops": 0.3},
    }
    few = {"num_images": 100, "evaluations": [4, 8], "fd_floor_percent": 0.03, "fd_percent": {"ddim": [3.0, 2.0]}}
    training = {"command": "accelerate launch train/ldm.py", "steps": 25}
    return {"training": training, "evaluation": evaluation, "few_evaluations": few}
