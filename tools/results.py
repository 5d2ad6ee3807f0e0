"""Write the results into README.md and checkpoints/README.md from the checkpoints' own metrics.json."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm_explorer.checkpoints import SHIPPED_CHECKPOINTS, discover, read_json, write_text
from train.results_table import tables

REPO = Path(__file__).resolve().parents[1]
START, END = "<!-- results -->", "<!-- end of results -->"
HEAD = """# Shipped checkpoints

Trained on Fashion-MNIST by the scripts in `train/`, weights averaged and stored in fp16. CPU-minutes are process CPU
time on two cores of a Xeon: one with AMX for what trained in bf16, one without for what trained in fp32. `--seed 0`.
Every folder holds its options, log and figures. ldm-32x32x1-cosine shared its machine with other work, which costs CPU
time: at the 90 images/s it trained with alone it takes 111 CPU-minutes.
"""

LAB = """## The lab

Small runs that show what goes wrong in training, and the right ones beside them, for the failure lab and the report; on
vae-8x8x4 except where another `--vae` is named: `vae-strong-kl` is
`accelerate launch train/vae.py --batch-size 64 --optimizer adamw --kl-weight 1 --max-steps 600`, `vae-collapsed` the
same with `--kl-weight 50 --max-steps 300`. `lab-middle-weights` is `lab-healthy` after about half of its steps, stopped
with Ctrl-C, which then went on with `--resume`:
`python train/export_state.py runs/fashion_mnist/lab-healthy --out runs/fashion_mnist/lab-middle-weights --weights last`
"""

SIZES = """## The family

Autoencoders that differ in their latents alone, at 30 CPU-minutes each, and a denoiser on five of them, at 60. The
number of steps follows from the rates that the sides train with, measured side by side on one core of an EPYC with
AVX2; CPU-minutes are those of the run itself, and differ as its machine was shared. `size-...` names the shape of the
latent (of a denoiser's run, of the autoencoder in it), `kl-...` the weight of the KL term at 8x8x4. `seeds.json` has
the figures of short runs that differ in their seed.
"""

TRIALS = """## Trials

What was tried for a better recipe, failures too: short trainings that differ from the first line in the options named,
on one core of an EPYC with AVX2, judged on the validation slice. rFD is in the features of two small classifiers of
other seeds than the one that measures, so that it picks nothing.

Autoencoders at 8x8x4, `--widths 16 32 64 --batch-size 16 --precision fp32`, 5.5 to 7.4 CPU-minutes:

| trial | images | PSNR dB | SSIM | rFD % | rFD %, the other |
| --- | --- | --- | --- | --- | --- |
| `--optimizer adamw --learning-rate 0.004` | 22,400 | 26.86 | 0.918 | 0.173 | 0.195 |
| `--optimizer muon --learning-rate 0.0012`, 0.004 for what Adam updates | 22,400 | 27.16 | 0.920 | 0.202 | 0.217 |
| `--optimizer muon --learning-rate 0.004` | 22,400 | 29.41 | 0.952 | 0.059 | 0.056 |
| `--optimizer muon --learning-rate 0.012`, 0.004 for what Adam updates | 22,400 | 29.88 | 0.957 | 0.046 | 0.039 |
| `--optimizer muon --learning-rate 0.004 --batch-size 8` | 20,800 | 29.96 | 0.958 | 0.052 | 0.048 |
| `--optimizer muon --learning-rate 0.004 --widths 16 32 32` | 32,000 | 29.91 | 0.956 | 0.049 | 0.038 |

Losses, the same with `--optimizer muon --learning-rate 0.012`, 5.4 to 6.6 CPU-minutes. The first of the two classifiers
is the one in the perceptual loss, the other is in none:

| added to the loss | images | PSNR dB | SSIM | rFD % | rFD %, the other |
| --- | --- | --- | --- | --- | --- |
| nothing | 22,400 | 29.88 | 0.957 | 0.046 | 0.039 |
| squared error at half and quarter side, weight 1 each | 22,400 | 29.39 | 0.956 | 0.055 | 0.048 |
| 1 - SSIM, weight 0.05 | 22,400 | 29.54 | 0.962 | 0.047 | 0.043 |
| `--perceptual`, a small classifier's feature maps, weight 0.05 | 22,400 | 29.80 | 0.957 | 0.012 | 0.012 |

Denoisers on vae-8x8x4, `--widths 96 96 --layers-per-block 1 --precision fp32`:

| trial | images | CPU-minutes | validation v-loss |
| --- | --- | --- | --- |
| `--optimizer adamw --batch-size 64 --learning-rate 0.002` | 25,600 | 3.7 | 0.554 |
| `--optimizer muon --batch-size 64 --learning-rate 0.006` | 25,600 | 4.7 | 0.538 |
| `--optimizer muon --batch-size 64 --learning-rate 0.015` | 25,600 | 4.2 | 0.545 |
| `--optimizer muon --batch-size 32 --learning-rate 0.006` | 24,000 | 5.2 | 0.537 |
| `--optimizer muon --batch-size 64 --learning-rate 0.006 --timesteps importance` | 25,600 | 5.6 | 0.538 |

`--weight-decay 0.1` with Muon gives the averaged weights a validation loss of 0.5088 beside 0.5106 after 1,500 of 10,000
steps, and keeps gradients calm where they had spikes of 1e5 without. (There the middle block's attention saw features
without normalisation as well: diffusers leaves its norm out when time scales and shifts, unless `attn_norm_num_groups` is
given; its logits grew to millions. In 400 steps the norm changes nothing: 0.538.)

Samplers on a denoiser after 3,900 steps, FD of 1,000 samples against the validation slice, in the two classifiers:

| sampler | evaluations | FD % | FD %, the other |
| --- | --- | --- | --- |
| DPM-Solver++ 2M | 8 | 0.468 | 0.561 |
| the same, Heun-like | 8 | 0.450 | 0.534 |
| the same, third order | 8 | 0.462 | 0.550 |
| the same, steps even in log-SNR | 8 | 0.582 | 0.728 |
| UniPC | 8 | 0.351 | 0.374 |
| UniPC, third order | 8 | 0.355 | 0.377 |
| UniPC | 10 | 0.332 | 0.351 |
| UniPC | 13 | 0.305 | 0.326 |
| DPM-Solver++ 2M | 13 | 0.366 | 0.408 |
| DPM-Solver++ 2M | 25 | 0.320 | 0.336 |
| DDIM | 25 | 0.408 | 0.461 |

Widths at finer grids, on size-16x16x1 and size-32x32x1, `--layers-per-block 1 --batch-size 64 --optimizer muon
--learning-rate 0.006 --precision fp32`:

| latents | widths | images | CPU-minutes | validation v-loss |
| --- | --- | --- | --- | --- |
| 16x16x1 | 64 96 96 | 15,680 | 5.7 | 0.2720 |
| 16x16x1 | 32 96 96 | 21,120 | 5.7 | 0.2716 |
| 32x32x1 | 32 64 96 96 | 8,960 | 5.5 | 0.553 |
| 32x32x1 | 16 32 96 96 | 17,920 | 6.1 | 0.520 |

Width against depth and the batch, with AdamW, 5 CPU-minutes on two cores with AVX512, another autoencoder at 8x8x4:

| widths | layers per block | batch | validation v-loss |
| --- | --- | --- | --- |
| 128 128 | 2 | 256 | 0.596 |
| 128 128 | 2 | 64 | 0.550 |
| 64 128 | 2 | 64 | 0.535 |
| 64 128 | 2 | 32 | 0.523 |
| 64 128 | 1 | 32 | 0.512 |
| 96 96 | 1 | 64 | 0.498 |
"""

GROUPS = {"fashion_mnist": HEAD, "sizes": SIZES, "lab": LAB}


def command_table(folders: list[Path]) -> str:
    rows = ["| checkpoint | command | M parameters | images | precision | CPU-minutes |", f"|{' --- |' * 6}"]
    for folder in folders:
        cost = read_json(folder / "metrics.json")["training"]
        rows.append(
            f"| {folder.name} | `{cost['command']}` | {cost['parameters'] / 1e6:.2f} | {cost['images']:,} "
            f"| {cost['precision']} | {cost['cpu_minutes']} |"
        )
    return "\n".join(rows)


def figure_tables(group: str) -> str:
    """The full figures of the measured checkpoints of a group, as Markdown."""
    checkpoints = discover(SHIPPED_CHECKPOINTS)[0]
    measured = {
        checkpoint.name: checkpoint.metrics["evaluation"]
        for checkpoint in checkpoints
        if checkpoint.folder.parent.name == group and "evaluation" in checkpoint.metrics
    }
    return "\n\n".join(tables(measured))


def main() -> None:
    sections = []
    for group, head in GROUPS.items():
        folders = sorted(path.parent for path in SHIPPED_CHECKPOINTS.glob(f"{group}/*/metrics.json"))
        if folders:
            sections.append(f"{head}\n{command_table(folders)}\n\n{figure_tables(group)}".rstrip())
    write_text(SHIPPED_CHECKPOINTS / "README.md", "\n\n".join([*sections, TRIALS]))
    readme = (REPO / "README.md").read_text()
    before, rest = readme.split(START)
    _, after = rest.split(END)
    figures = "\n\n".join(filter(None, map(figure_tables, ("fashion_mnist", "sizes"))))
    write_text(REPO / "README.md", f"{before}{START}\n{figures}\n{END}{after}")


if __name__ == "__main__":
    main()
