"""Which checkpoints are compared, and on which images: what the parts of the room have in common."""

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.explore.images import ImageToExplore, class_labels, example_image, example_images
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_measures import (
    SizeMeasures,
    comparable_names,
    default_names,
    family_names,
    family_spread,
    read_measures,
)
from ldm_explorer.ui import settings
from ldm_explorer.ui.images import class_of
from ldm_explorer.ui.settings import Settings


class Compared(Settings):
    """Checkpoints to compare: `sizes`, or one of each size, over the same images as `checkpoint`."""

    checkpoint: settings.Checkpoint
    sizes: settings.Sizes = ()


class ComparedOnImage(Compared):
    """The same, and an image."""

    class_name: settings.ClassName
    number: settings.Number = 1
    upload: settings.Upload = None


class SecondImage(Settings):
    """Another image beside the chosen one."""

    second_class: settings.SecondClass = ""
    second_number: settings.SecondNumber = 1


def compared(library: Library, chosen: Compared) -> tuple[SizeMeasures, ...]:
    """What is stored of the compared checkpoints, from the fewest values on."""
    names = chosen.sizes or default_names(library, chosen.checkpoint)
    found = read_measures(library, comparable_names(library, chosen.checkpoint, names))
    return tuple(sorted(found, key=lambda item: item.size.values))


def compared_checkpoints(library: Library, chosen: Compared) -> list[Checkpoint]:
    return [library.get(item.name) for item in compared(library, chosen)]


def of_other_images(library: Library, chosen: Compared) -> list[str]:
    """A sentence for each that was to be compared and cannot be."""
    known = library.beside(chosen.checkpoint)
    return [f"{name} was trained on other images." for name in chosen.sizes if name not in known]


def family(library: Library, chosen: Compared) -> tuple[tuple[SizeMeasures, ...], dict[str, float]]:
    """What is stored of the runs that differ in their latents alone, and the spread of their training seeds."""
    names = family_names(library, chosen.checkpoint)
    return (read_measures(library, names) if names else ()), family_spread(library, chosen.checkpoint)


def not_measured(library: Library, chosen: Compared) -> str:
    """What an opened model lacks to stand in the figure beside the others, and how to have it, as Markdown; or ""."""
    if library.is_listed(chosen.checkpoint):
        return ""
    (own,) = read_measures(library, [chosen.checkpoint])
    if own.get("psnr_db") is not None or own.get("fd_percent") is not None:
        return ""
    others = [library.get(name).dataset for name in library.beside(chosen.checkpoint)[:-1]]
    beside = f", beside latents of {others[0]}, which its images need not be of" if others else ""
    return (
        f"`{own.name}` stores no measures (`python train/evaluate.py FOLDER` takes them): its cost and reconstruction "
        f"stand here{beside}."
    )


def second_image(library: Library, checkpoint: str, class_name: str, second: SecondImage) -> ImageToExplore:
    """The second image. Where its class is not chosen, or not of these images, it is the first other one than the
    first image's."""
    known, spec = library.get(checkpoint), library.get(checkpoint).spec
    labels = class_labels(example_images(known), spec)
    present = [] if labels is None else [spec.class_names[label] for label in labels.unique().tolist()]
    others = [name for name in present if name != class_name] or present
    name = second.second_class if second.second_class in present else others[0] if others else class_of(class_name)
    return example_image(known, name, second.second_number - 1)
