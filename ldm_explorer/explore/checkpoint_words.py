"""What a checkpoint is, in a line of a list, and which ones the list begins with."""

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.training_words import TARGETS
from ldm_explorer.files import counted
from ldm_explorer.shipped import find_shipped_checkpoints


def in_a_line(checkpoint: Checkpoint) -> str:
    """Name, what was trained, and the latent; read from its JSON alone, for its weights may not be loaded yet."""
    channels, side, _ = checkpoint.model.latent_shape
    latent = f"{'pixels ' * (checkpoint.kind == 'pixel')}{side}x{side}x{channels} = {side * side * channels:,} values"
    return f"{checkpoint.name}: {_trained(checkpoint)}; {latent}"


def _trained(checkpoint: Checkpoint) -> str:
    if checkpoint.kind == "vae":
        return "autoencoder alone"
    if checkpoint.teacher:
        steps = checkpoint.sampling.num_inference_steps
        return f"student of {checkpoint.teacher}, {counted(steps, 'evaluation')}"
    trained = "transformer" if checkpoint.model.is_transformer else "denoiser"
    predicts, schedule = checkpoint.config.get("prediction"), checkpoint.config.get("schedule")
    return ", ".join([trained, *filter(None, [schedule]), *([TARGETS[predicts]] if predicts else [])])


def first_names(library: Library) -> list[str]:
    """All but those that were trained for a comparison, the shipped ones whose folder is no dataset's; of these the
    first of each path and network that no other is of, so that nobody has to look for a flow, or a transformer."""
    shipped = find_shipped_checkpoints()
    studies = {
        checkpoint.name
        for checkpoint in library.checkpoints.values()
        if shipped in checkpoint.folder.parents and checkpoint.folder.parent.name != checkpoint.dataset
    }
    kinds = {_kind(checkpoint) for name, checkpoint in library.checkpoints.items() if name not in studies}
    for name in sorted(studies):
        if (kind := _kind(library.get(name))) is not None and kind not in kinds and kinds:
            kinds.add(kind)
            studies.remove(name)
    return [name for name in library.names() if name not in studies] or library.names()


def _kind(checkpoint: Checkpoint) -> tuple[str, bool] | None:
    """Along what a denoiser is sampled, and whether it is a transformer; None for an autoencoder alone."""
    return (checkpoint.sampled_along, checkpoint.model.is_transformer) if checkpoint.has_denoiser else None
