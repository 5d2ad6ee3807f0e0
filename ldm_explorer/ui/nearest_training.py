"""Below samples: the training image that each lies nearest to, and whether that is as near as a copy would be."""

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.explore.nearest_training import NUM_COMPONENTS, Copies, find_copies
from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.pictures import Picture, notice, picture_row, strip

HEADING = "Nearest training image"
NO_PIXELS = (
    f"Measured in the first {NUM_COMPONENTS} principal components of the pixels, by which another image may be the "
    "nearest: the dataset itself is not on this machine, so its picture is not shown (Debian has it as "
    "dataset-fashion-mnist)."
)


def nearest_shown(runs: list[tuple[Checkpoint, Tensor]], titles: list[str]) -> Markup:
    """For each run's images `(B, C, side, side) uint8`, side by side where the dataset is on this machine."""
    headings = [HEADING] if len(runs) == 1 else [f"{HEADING}, {title}" for title in titles]
    return join(_of_one_run(*run, heading) for run, heading in zip(runs, headings, strict=True))


def _of_one_run(checkpoint: Checkpoint, samples: Tensor, heading: str) -> Markup:
    copies = find_copies(checkpoint, samples)
    title = html('<h3 class="ldm-heading">{}</h3>', heading)
    if copies is None:
        said = f"What {checkpoint.dataset} trains on is not known here, so no training image can be called the nearest."
        return join([title, notice([said])])
    names = checkpoint.spec.class_names
    found = zip(copies.nearest.numbers.tolist(), copies.nearest.labels.tolist(), strict=True)
    captions = [f"number {number:,} ({names[label]})" for number, label in found]
    if copies.nearest.images is None:
        return join([title, notice([f"It is {', '.join(captions)}.", *words(copies), NO_PIXELS])])
    pairs = zip(samples, copies.nearest.images, captions, strict=True)
    shown = [Picture(strip(torch.stack(pair)), "", caption) for *pair, caption in pairs]
    return join([title, picture_row(shown, layout="pairs"), html("<p>{}</p>", join(words(copies), " "))])


def words(copies: Copies) -> list[str]:
    """How near the samples lie, beside images that cannot be copies."""
    count, ratio, near = len(copies.ratios), float(copies.ratios.median()), int(copies.near.sum())
    others = f"reconstructions of test images, which cannot be copies, from theirs (median of {copies.num_reference})"
    if count == 1:
        verdict = "nearer than 99 % of these, as a copy would be" if near else "no sign of a copy"
        return [f"The sample is {ratio:.2f} times as far from it as {others}: {verdict}."]
    return [
        f"The samples are {ratio:.2f} times as far from theirs (median) as {others}.",
        f"{near or 'None'} of {count} {'is' if near < 2 else 'are'} nearer than 99 % of these, as a copy would be.",
    ]
