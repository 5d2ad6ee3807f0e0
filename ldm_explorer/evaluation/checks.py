"""What is measured has the type, shape and range that it is measured in: anything else would give a number, too."""

from torch import Tensor

from ldm_explorer.files import shown

ROUNDING = 1e-3
"""How far from [-1, 1] pixels may lie that were computed."""


def check_pixels(*images: Tensor) -> None:
    """Raise `ValueError` for what is no tensor `(N, C, H, W)` of floats in [-1, 1], or not of one shape with others."""
    wanted = "give a tensor (N, C, H, W) of floats in [-1, 1], as to_model() makes them"
    for one in images:
        if not isinstance(one, Tensor) or not one.is_floating_point() or one.ndim != 4 or not one.numel():
            raise ValueError(f"the images are {described(one)}: {wanted}")
        low, high = one.aminmax()
        if not (low >= -1 - ROUNDING and high <= 1 + ROUNDING):
            raise ValueError(f"the images have values from {float(low):g} to {float(high):g}: {wanted}")
    check_same("images", *images)


def check_values(name: str, num_dimensions: int, *values: Tensor) -> None:
    """Raise `ValueError` for what is no tensor of finite floats with so many dimensions, or not of one kind of row."""
    wanted = f"give a tensor of finite floats with {num_dimensions} dimension(s)"
    for one in values:
        if not isinstance(one, Tensor) or not one.is_floating_point() or one.ndim != num_dimensions or not one.numel():
            raise ValueError(f"the {name} are {described(one)}: {wanted}")
        if not one.isfinite().all():
            raise ValueError(f"the {name} are not all finite: {wanted}")
    check_same(name, *(one[:1] for one in values))


def check_count(images: Tensor, latents: Tensor) -> None:
    """Raise `ValueError` where there is not one latent for each image."""
    if len(images) != len(latents):
        raise ValueError(f"there are {len(latents)} latents of {len(images)} images: give one for each")


def check_same(name: str, *values: Tensor) -> None:
    """Raise `ValueError` where shapes differ."""
    if len({one.shape for one in values}) > 1:
        raise ValueError(f"the {name} are of the shapes {', '.join(str(tuple(one.shape)) for one in values)}: give one")


def described(value: object) -> str:
    """What came in the place of a tensor, or of one of another type or shape."""
    if not isinstance(value, Tensor):
        return shown(value)
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
