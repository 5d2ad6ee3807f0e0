"""Checks of the class labels: does the network hear them, and does each mean its own class?"""

import torch

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks.networks import DEAD, half_noised, relative_change
from ldm_explorer.diagnosis.judge import beats_white
from ldm_explorer.diagnosis.known import spread
from ldm_explorer.diagnosis.probes import step_at
from ldm_explorer.diagnosis.verdicts import Finding, NotRun
from ldm_explorer.files import shown
from ldm_explorer.networks import part_of
from ldm_explorer.prediction import add_noise, target
from ldm_explorer.run_layout import TRANSFORMER, UNET

LABELS_TOLD = 4
SHIFTS = 10
MIN_LABELLED = 20
LABEL_TELLS = 0.95
LABELS_AT = 0.27
"""Share of the variance that is signal: noisy enough for the label to matter, and not so noisy that nothing does."""

EMBEDDING = {UNET: "class_embedding", TRANSFORMER: "the blocks' class_embedder"}
"""What a label goes through first, as the weights are named."""


def label_response(case: Case) -> Finding:
    """The same noisy latents, told another class: the output has to change."""
    if case.num_labels < 2:
        raise NotRun("the network takes no class labels")
    (z_t, timestep), part = half_noised(case, 0.8), part_of(case.network)
    told = spread(case.num_labels, LABELS_TOLD)
    outputs = [case.predict(z_t, timestep, label.expand(len(z_t))) for label in told]
    if not any(output.any() for output in outputs):
        raise NotRun("its output is 0 whatever it is told, as that of a transformer is before its first step")
    change = max(relative_change(outputs[0], other) for other in outputs[1:])
    labels = ", ".join(map(str, told.tolist()))
    if not change >= DEAD:
        return Finding(
            f"Told the labels {labels}, the output differs by {change:.1g} of its size (should be tenths).",
            "The network does not hear the class label",
            f"{part}/: {EMBEDDING[part]} is dead; pass the labels in training, and train again",
            severity=2,
        )
    return Finding(f"Told the labels {labels}, the output at t = {timestep} differs by up to {change:.0%}.")


def labels_match(case: Case) -> Finding:
    """Latents of a known class are denoised best when their own label is given."""
    known, classes = case.known_latents(), case.num_classes
    if classes < 2:
        raise NotRun("the network takes no class labels")
    if known.labels is None or not known.labelled:
        raise NotRun(_why_unlabelled(case))
    if len(known.z0) < MIN_LABELLED:
        raise NotRun(f"it needs {MIN_LABELLED} images, and there are {len(known.z0)}")
    chosen = spread(len(known.z0), case.batch_size)
    z0, labels = known.z0[chosen], known.labels[chosen]
    eps = torch.randn(z0.shape, generator=torch.Generator().manual_seed(4))
    timestep = step_at(case.schedule, LABELS_AT)
    white = float(case.floors(case.prediction_type, [timestep]).white)
    mixed = case.amplitudes[timestep]
    z_t, wanted = add_noise(z0, eps, mixed), target(case.prediction_type, z0, eps, mixed)
    shifts = range(classes) if classes <= SHIFTS else [*range(SHIFTS // 2), *range(classes - SHIFTS // 2, classes)]
    losses = {
        shift: float((case.predict(z_t, timestep, (labels + shift) % classes) - wanted).square().mean())
        for shift in shifts
    }
    best, part = min(losses, key=lambda shift: losses[shift]), part_of(case.network)
    if not beats_white(losses[best], white):
        raise NotRun("with no label does the network know more than the scale of the latents")
    other = sum(loss for shift, loss in losses.items() if shift) / (len(losses) - 1)
    numbers = f"Error at t = {timestep} with the right label {losses[0]:.3f}, with the others {other:.3f} on average"
    if losses[best] < LABEL_TELLS * losses[0]:
        return Finding(
            f"{numbers}, with label + {best} modulo {classes} {losses[best]:.3f} (the right one should be lowest).",
            f"Labels are shifted: class k answers to label k + {best}",
            f"{part}/: the rows of {EMBEDDING[part]} or the labels in training are shifted; meanwhile give label "
            f"+ {best}",
            severity=2,
        )
    return Finding(f"{numbers} (the right one should be lowest).")


def _why_unlabelled(case: Case) -> str:
    name_them = f"name the subfolders of --images by label, 0 to {case.num_classes - 1}"
    if not case.image_folders:
        return f"it needs latents or images whose class is known: {name_them}"
    named = shown(", ".join(case.image_folders))
    return f"which label each subfolder is, is not known ({named}): {name_them}"
