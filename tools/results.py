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
`accelerate launch train/vae.py --widths 16 32 64 --kl-weight 1 --max-steps 600`, `vae-collapsed` the same with
`--kl-weight 50 --max-steps 300`. `lab-middle-weights` is `lab-healthy` after about half of its steps, stopped with
Ctrl-C, which then went on with `--resume`:
`python train/export_state.py runs/fashion_mnist/lab-healthy --out runs/fashion_mnist/lab-middle-weights --weights last`
"""

SIZES = """## The family

Autoencoders that differ in their latents alone, at 30 CPU-minutes each, and a denoiser on five of them, at 60. The
number of steps follows from the rate that a side trains with when nothing else runs; CPU-minutes are those of the run
itself, and higher where it shared the machine. `size-...` names the shape of the latent (of a denoiser's run, of the
autoencoder in it), `kl-...` the weight of the KL term at 8x8x4. `seeds.json` has the figures of short runs that
differ in their seed.
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
    write_text(SHIPPED_CHECKPOINTS / "README.md", "\n\n".join(sections) + "\n")
    readme = (REPO / "README.md").read_text()
    before, rest = readme.split(START)
    _, after = rest.split(END)
    figures = "\n\n".join(filter(None, map(figure_tables, ("fashion_mnist", "sizes"))))
    write_text(REPO / "README.md", f"{before}{START}\n{figures}\n{END}{after}")


if __name__ == "__main__":
    main()
