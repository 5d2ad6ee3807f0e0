"""The test images to choose from: one picture of all that a dataset's checkpoints share, and where each lies in it."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from torch import Tensor
from torch.nn.functional import interpolate

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import crop
from ldm_explorer.examples import PER_CLASS
from ldm_explorer.explore.images import ANY_CLASS, class_labels, example_images
from ldm_explorer.explore.library import Library
from ldm_explorer.lazy import cached_property

ADDRESS = "/images/{number:int}.png"
MAX_CLASSES = 100
THUMBNAIL_SIDE = 48
A_DAY = {"Cache-Control": "max-age=86400"}


@dataclass(frozen=True)
class ImageSet:
    """Test images in rows of one class each: a name, and how many there are."""

    images: Tensor  # (N, C, side, side) uint8, in the order of the rows
    rows: tuple[tuple[str, int], ...]

    @property
    def columns(self) -> int:
        return max(count for _, count in self.rows)

    @property
    def classes(self) -> list[dict[str, Any]]:
        """For the page's script."""
        return [{"name": name, "count": count} for name, count in self.rows]

    def thumbnails(self) -> "ImageSet":
        """The first ones of each class, small: of images that anybody may have brought."""
        rest, kept = self.images, []
        for _, count in self.rows[:MAX_CLASSES]:
            row, rest = rest[:count], rest[count:]
            kept.append(row[:PER_CLASS])
        images = torch.cat(kept)
        if images.shape[-1] > THUMBNAIL_SIDE:
            images = interpolate(images.float(), THUMBNAIL_SIDE, mode="area").round().byte()
        return ImageSet(images, tuple((name, min(count, PER_CLASS)) for name, count in self.rows[:MAX_CLASSES]))

    @cached_property
    def png(self) -> bytes:
        """All rows as one picture."""
        rest, whole = self.images, []
        for _, count in self.rows:
            row, rest = rest[:count], rest[count:]
            missing = row.new_zeros(self.columns - count, *row.shape[1:])
            whole.append(torch.cat(list(torch.cat([row, missing])), -1))
        array = torch.cat(whole, -2).permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, "PNG")
        return buffer.getvalue()


@dataclass(frozen=True)
class ImageSets:
    """The sets of a library's checkpoints, each once; `of` says which is whose."""

    sets: list[ImageSet] = field(default_factory=list)
    of: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, library: Library) -> "ImageSets":
        """A checkpoint whose images cannot be read has none to choose from."""
        found, known = cls(), dict[int, int]()
        for checkpoint in library.checkpoints.values():
            try:
                examples = example_images(checkpoint)
            except ValueError:
                continue
            if id(examples) not in known:
                known[id(examples)] = len(found.sets)
                found.sets.append(image_set(checkpoint))
            found.of[checkpoint.name] = known[id(examples)]
        return found

    def described(self) -> list[dict[str, Any]]:
        """For the page's script."""
        return [
            {"address": f"images/{number}.png", "columns": images.columns, "classes": images.classes}
            for number, images in enumerate(self.sets)
        ]

    def route(self) -> Route:
        """Where the page gets them."""

        def picture(request: Request) -> Response:
            number = request.path_params["number"]
            if number >= len(self.sets):
                return Response("there is no such picture", 404)
            return Response(self.sets[number].png, media_type="image/png", headers=A_DAY)

        return Route(ADDRESS, picture)


def image_set(checkpoint: Checkpoint) -> ImageSet:
    """The examples of a checkpoint by their classes. Raises `ValueError` as `example_images` does."""
    examples, spec = example_images(checkpoint), checkpoint.spec
    labels, images = class_labels(examples, spec), crop(examples.images, spec)
    if labels is None:
        return ImageSet(images, ((ANY_CLASS, len(images)),))
    # Somebody's own come split by split. Stable, so that each class stays in the order that `example_image` counts in.
    return ImageSet(images[labels.sort(stable=True).indices], tuple(_rows(labels, spec.class_names)))


def _rows(labels: Tensor, class_names: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    for label, count in zip(*labels.unique(return_counts=True), strict=True):
        yield class_names[int(label)], int(count)
