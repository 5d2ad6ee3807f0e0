"""What somebody trains without this project: diffusers alone, with the defaults of its own training example.

`python benchmarks/plain_diffusers.py pixels|latents OUT [MINUTES] [SCALING_FACTOR]` trains a DDPM on Fashion-MNIST, on
pixels or on the latents of an autoencoder that it trains first, and saves it in OUT; by default for four CPU-minutes,
which are two of the clock on two cores.
"""

import gzip
import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMPipeline, DDPMScheduler, UNet2DModel
from torch.nn.functional import interpolate, mse_loss

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def load():
    """Images `(60000, 1, 32, 32)` in [-1, 1] and their labels."""
    names = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    images, labels = (gzip.decompress((FASHION_MNIST / name).read_bytes()) for name in names)
    pixels = torch.frombuffer(bytearray(images[16:]), dtype=torch.uint8).view(-1, 1, 28, 28).float() / 127.5 - 1
    return interpolate(pixels, 32, mode="bilinear", antialias=True), torch.tensor(list(labels[8:]))


def unet(side: int, channels: int, widths: tuple[int, ...], **options) -> UNet2DModel:
    down, up = ["DownBlock2D"] * (len(widths) - 1), ["UpBlock2D"] * (len(widths) - 1)
    blocks = {"down_block_types": (*down, "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", *up)}
    shape = {"sample_size": side, "in_channels": channels, "out_channels": channels}
    return UNet2DModel(**shape, **blocks, block_out_channels=widths, layers_per_block=1, **options)


def train(model, minutes: float, loss_of, lr: float) -> None:
    optimizer, end = torch.optim.AdamW(model.parameters(), lr, weight_decay=1e-6), time.process_time() + 60 * minutes
    while (left := end - time.process_time()) > 0:
        optimizer.param_groups[0]["lr"] = lr * min(1.0, left / (30 * minutes))
        loss = loss_of(torch.randint(60_000, (64,)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(f"{type(model).__name__}: last loss {loss.item():.4f}")


def train_denoiser(model, scheduler: DDPMScheduler, clean, labels, minutes: float) -> None:
    def loss_of(rows):
        z0, t = clean[rows], torch.randint(scheduler.config.num_train_timesteps, (len(rows),))
        noise = torch.randn_like(z0)
        given = () if labels is None else (labels[rows],)
        return mse_loss(model(scheduler.add_noise(z0, noise, t), t, *given).sample, noise)

    train(model, minutes, loss_of, 5e-4)


def pixels(out: Path, minutes: float) -> None:
    model, scheduler = unet(32, 1, (32, 64, 128)), DDPMScheduler(1000, beta_schedule="linear")
    train_denoiser(model, scheduler, load()[0], None, minutes)
    DDPMPipeline(model, scheduler).save_pretrained(out)


def latents(out: Path, minutes: float, scaling_factor: float | None = None) -> None:
    """Class-conditional, without a null class; the scaling factor is measured unless one is given."""
    (images, labels), widths = load(), (16, 32, 32)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    vae = AutoencoderKL(
        1, 1, block_out_channels=widths, latent_channels=4, norm_num_groups=16, sample_size=32, **blocks
    )

    def loss_of(rows):
        posterior = vae.encode(images[rows]).latent_dist
        return mse_loss(vae.decode(posterior.sample()).sample, images[rows]) + 1e-6 * posterior.kl().mean()

    train(vae, minutes / 2, loss_of, 1e-3)
    with torch.no_grad():
        raw = torch.cat([vae.encode(part).latent_dist.sample() for part in images.split(500)])
    vae.register_to_config(scaling_factor=scaling_factor or 1 / float(raw[:6000].std()))
    model, scheduler = unet(8, 4, (64, 128), num_class_embeds=10), DDPMScheduler(1000, beta_schedule="linear")
    train_denoiser(model, scheduler, raw * vae.config.scaling_factor, labels, minutes / 2)
    for part, saved in {"vae": vae, "unet": model, "scheduler": scheduler}.items():
        saved.save_pretrained(out / part)


if __name__ == "__main__":
    torch.manual_seed(0)
    kind, folder, *options = sys.argv[1:]
    {"pixels": pixels, "latents": latents}[kind](Path(folder), *map(float, options or ["4"]))
