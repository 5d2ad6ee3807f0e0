"""What a loss needs to know of the latents that a denoiser sees: their scale, or the spectrum of their covariance."""

import re
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from torch import Tensor
from typing_extensions import TypedDict

from ldm_explorer.diagnosis.floors import ROUNDING
from ldm_explorer.diagnosis.statistics import NORMALISED_WITHIN
from ldm_explorer.files import CheckpointError, shown, why_invalid

SHARES = 128
"""A spectrum is printed as the means of so many equal shares of its eigenvalues: the floors are means of a smooth
function of them."""

ENOUGH = 10
"""Latents per value, from which on the covariance of a sample gives the Gaussian floor within two percent."""
TOO_FEW = 2
"""With fewer per value the sample's own covariance says too little of the latents'."""

SNIPPET = f"""\
import json, torch

def print_facts(latents, labels=None):  # (N, c, h, w) as the denoiser sees them; labels (N,) if it is told the class
    values = latents.detach().cpu().double().flatten(1)  # N should be {ENOUGH} times their number, c h w
    labels = torch.zeros(len(values)) if labels is None else labels.cpu()
    spectrum = lambda rows: torch.linalg.eigvalsh(torch.cov(rows.T, correction=0)).clamp(min=0)
    means = lambda found: found.sort().values.repeat_interleave({SHARES}).view({SHARES}, -1).mean(1).tolist()
    stds = lambda rows: rows.square().view(len(rows), latents.shape[1], -1).mean((0, 2)).sqrt().tolist()
    print(json.dumps({{"latents": len(values), "values": values.shape[1], "eigenvalues": means(spectrum(values)),
                      "class_eigenvalues": means(torch.cat([spectrum(values[labels == k]) for k in labels.unique()])),
                      "stds": stds(values - values.mean(0)), "stds_of_all": stds(values - values.mean())}}))
"""
"""Prints what `LatentFacts.parse` reads, of any latents: `print_facts(latents)`."""

Square = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Scale = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


@with_config(ConfigDict(extra="allow"))
class _Printed(TypedDict, total=False):
    """What the snippet prints; a standard deviation alone is enough for the white floor."""

    latents: Annotated[int, Field(ge=1)]
    values: Annotated[int, Field(ge=1, le=10**9)]
    eigenvalues: Annotated[list[Square], Field(min_length=1, max_length=100_000, fail_fast=True)]
    class_eigenvalues: Annotated[list[Square], Field(min_length=1, max_length=100_000, fail_fast=True)]
    stds: Annotated[list[Scale], Field(min_length=1, max_length=100_000, fail_fast=True)]
    stds_of_all: Annotated[list[Scale], Field(min_length=1, max_length=100_000, fail_fast=True)]
    std: Scale


_PRINTED = TypeAdapter(_Printed)


@dataclass(frozen=True, eq=False)
class LatentFacts:
    """Of the latents as the denoiser sees them, about their mean image where that is known."""

    channel_variances: Tensor  # (c,), or (1,) where all have one
    eigenvalues: Tensor | None = None  # of their covariance, or means of equal shares of it
    class_eigenvalues: Tensor | None = None  # the same of every class on its own, all together
    values: int | None = None  # of one latent
    latents: int | None = None  # that were measured
    about_mean_image: bool = False  # whether the variances are surely that, and not those of all values
    variance_of_all: float | None = None  # of all values about their mean, where it was measured

    @property
    def variance(self) -> float:
        return float(self.channel_variances.mean())

    @property
    def std_of_all(self) -> float:
        """What recipes scale to 1; that about the mean image where no other is known."""
        return (self.variance_of_all or self.variance) ** 0.5

    @property
    def few(self) -> bool:
        """Whether the sample's covariance fits its own latents too well."""
        return bool(self.latents and self.values and self.latents < ENOUGH * self.values)

    def how_few(self) -> str:
        """What follows of that."""
        measured, values = self.latents or 0, self.values or 0
        if self.eigenvalues is None:
            said = f"{measured:,} latents say too little of the covariance of {values:,} values: no Gaussian floor"
        else:
            said = f"the covariance of {values:,} values was measured on {measured:,} latents: its floor is too low"
        return f"{said}, measure {ENOUGH * values:,}"

    @classmethod
    def of_std(cls, *stds: float) -> "LatentFacts":
        """A standard deviation, or one per channel. Raises `ValueError` for one that is not above 0."""
        if not stds or not all(0 < std <= 1e6 for std in stds):
            raise ValueError(f"the latents' standard deviation is {shown(stds)}: give one above 0, or one per channel")
        return cls(torch.tensor(stds).square())

    @classmethod
    def parse(cls, text: str) -> "LatentFacts":
        """What the snippet printed, or numbers: a standard deviation, or one per channel.

        Raises `CheckpointError` for anything else.
        """
        if "{" not in text:
            try:
                return cls.of_std(*(float(number) for number in re.split(r"[\s,;]+", text.strip(" \n[]()"))))
            except ValueError as error:
                said = f"the latents are {shown(text)}: give a standard deviation above 0, or what the snippet prints"
                raise CheckpointError(said) from error
        try:
            printed = _PRINTED.validate_json(text[text.index("{") : text.rindex("}") + 1 or None])
        except ValidationError as error:
            raise CheckpointError(f"what the snippet printed of the latents{why_invalid(error)}") from error
        except ValueError as error:
            raise CheckpointError(
                "what the snippet printed of the latents is cut off: paste all of the line"
            ) from error
        return cls._of(printed)

    @classmethod
    def _of(cls, printed: _Printed) -> "LatentFacts":
        spectrum, stds = printed.get("eigenvalues"), printed.get("stds")
        if stds is None and "std" in printed:
            stds = [printed["std"]]
        if spectrum is None and stds is None:
            raise CheckpointError("the latents have neither eigenvalues nor a std: paste what the snippet prints")
        channels = torch.tensor(spectrum).mean()[None] if stds is None else torch.tensor(stds).square()
        if all(abs(std - 1) < NORMALISED_WITHIN for std in printed.get("stds_of_all", [0])):
            channels = channels.mean()[None]  # normalised: one scale for all, as for runs of our own
        whole = printed.get("stds_of_all")
        of_all = None if whole is None else float(torch.tensor(whole).square().mean())
        values, latents = printed.get("values"), printed.get("latents")
        if spectrum is not None and abs(float(torch.tensor(spectrum).mean() / channels.mean()) - 1) > 10 * ROUNDING:
            raise CheckpointError("the eigenvalues of the latents do not have the mean of their variances: print anew")
        if latents and values and latents < TOO_FEW * values:
            return cls(channels, values=values, latents=latents, about_mean_image=True, variance_of_all=of_all)
        per_class = printed.get("class_eigenvalues")
        return cls(
            channels,
            eigenvalues=None if spectrum is None else torch.tensor(spectrum),
            class_eigenvalues=None if per_class in (None, spectrum) else torch.tensor(per_class),
            values=values,
            latents=latents,
            about_mean_image=spectrum is not None or "stds" in printed,
            variance_of_all=of_all,
        )
