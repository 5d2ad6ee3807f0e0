"""Checks of how a trained denoiser was put together again: the order of its channels, its settings, its output's scale.

A network that was trained with other ones denoises better with those, and no other fault makes it do so.
"""

from collections.abc import Iterator
from itertools import permutations
from typing import Any, TypeVar

import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import nn

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.known import KnownLatents, spread
from ldm_explorer.diagnosis.probes import FITS, Answer, Probe, error_over_white, is_better, make_probes, own_answer
from ldm_explorer.diagnosis.verdicts import ASK_FOR_IMAGES, Finding, NotRun
from ldm_explorer.files import counted
from ldm_explorer.networks import part_of, rebuilt
from ldm_explorer.run_layout import TRANSFORMER, UNET, config_of
from ldm_explorer.schedules import DEFAULT_NUM_TIMESTEPS

MAX_CHANNELS = 4
"""Of more there are too many orders to be tried."""
TIMESTEPS_TOLD = 12
OFF_SCALE = 1.15
SAME_SCALE, SHARE = 1.1, 0.4
"""How far the factors at three timesteps may be apart; where scaling clearly helps and all are far from 1, a share of
how far, in logarithms."""
CLEARLY_BELOW = 0.9
BETTER_BUILT = 0.9
"""No trained network errs by less than .99 of its own error when it is built with other settings."""
OF_A_UNET = {
    "flip_sin_to_cos": (True, False),
    "freq_shift": (0, 1),
    "center_input_sample": (False, True),
    "act_fn": ("silu", "gelu", "relu"),
    "norm_num_groups": (4, 8, 16, 32),
    "attention_head_dim": (8, 16, 32, 64),
    "downsample_padding": (0, 1),
}
"""Fields of a UNet's config that weights of the same shapes do not tell."""
HEAD_DIMS = (8, 16, 32, 48, 64, 72, 96, 128)
"""Of a transformer the weights do not tell into how many heads its attention is cut."""
LAST_LAYER = {UNET: "conv_out", TRANSFORMER: "proj_out_2"}

Key = TypeVar("Key")


def _probes(case: Case) -> list[Probe]:
    return make_probes(case, _latents(case))


def _latents(case: Case) -> KnownLatents:
    if case.stored_latents is None:  # the network's own samples fit it, whatever it does
        raise NotRun(f"it needs images: {ASK_FOR_IMAGES}")
    return case.stored_latents


def _latents_as_encoded(case: Case) -> KnownLatents:
    """What the folder's own autoencoder gives, where there are images: stored latents are those of training."""
    encodes = case.images is not None and case.vae is not None and case.is_finite("autoencoder")
    return case.encoded_images() if encodes else _latents(case)


def _best_of(answers: dict[Key, Answer], own: Answer, probes: list[Probe]) -> tuple[Key, float, float]:
    """The best on a few latents of some ways to use a network; its error and the own one on all of them."""
    best = min(answers, key=lambda key: error_over_white([probes[0].few], answers[key]))
    return best, error_over_white(probes, answers[best]), error_over_white(probes, own)


def channel_order(case: Case) -> Finding:
    """The network told its channels in every order."""
    channels, probes = case.shape[0], make_probes(case, _latents_as_encoded(case))
    if not 2 <= channels <= MAX_CHANNELS:
        raise NotRun(f"it has {counted(channels, 'channel')}, and the orders of 2 to {MAX_CHANNELS} are tried")

    def answer(order: tuple[int, ...]) -> Answer:
        back = torch.tensor(order).argsort()
        return lambda probe: case.predict(probe.z_t[:, list(order)], probe.timestep, probe.labels)[:, back]

    _, *others = permutations(range(channels))
    best, error, own = _best_of({order: answer(order) for order in others}, own_answer(case), probes)
    order = ", ".join(map(str, best))
    evidence = f"Its error is {own:.2f} of the white floor, with the channels in the order {order} it is {error:.2f}"
    if not is_better(error, own):
        return Finding(f"{evidence}, and in all others more (its own should be the best).")
    return Finding(
        f"{evidence} (its own should be the best).",
        "Channels come in another order than in training",
        f"give the denoiser the channels {order}: this is another autoencoder, or images are read as BGR for RGB",
        severity=3,
    )


def network_config(case: Case) -> Finding:
    """The settings that weights do not tell, each tried with other values."""
    if (trained := _trained_side(case)) not in (None, case.shape[-1]):
        return _other_side(case, trained)
    probes, network, part = _probes(case), case.required_network, part_of(case.network)
    answers = {tuple(fields.items()): _answer_of(case, other) for fields, other in _rebuilt(network)}
    if not answers:
        raise NotRun("it has no setting that its weights do not tell")
    best, error, own = _best_of(answers, own_answer(case), probes)
    field, value = best[-1]
    evidence = (
        f"Its error is {own:.2f} of the white floor, with {field} {value} in place of {network.config[field]} "
        f"{error:.2f}"
    )
    if not (error < FITS and error < BETTER_BUILT * own):
        return Finding(f"{evidence}, and with others more (its own should be the best).")
    elsewhere = {
        "told other timesteps {:.2f}: that is a matter of the schedule": _error_told_the_best_timestep(case, probes),
        "with its output scaled {:.2f}: that is a matter of its scale": _rescaled(case, probes)[1],
    }
    said, explained = min(elsewhere.items(), key=lambda item: item[1])
    if error > CLEARLY_BELOW * explained:
        return Finding(f"{evidence}, but {said.format(explained)}.")
    return Finding(
        f"{evidence} (its own should be the best).",
        f"The network is built in another way than it was trained: {field} is {network.config[field]}",
        f"{config_of(part)}: " + ", ".join(f'"{name}": {_as_json(to)}' for name, to in best),
        severity=3,
    )


def _trained_side(case: Case) -> int | None:
    """The side of the latents that were kept of training, which are square; None without."""
    return None if case.statistics is None else case.statistics.subset.mean.shape[-1]


def _other_side(case: Case, trained: int) -> Finding:
    side, part = case.shape[-1], part_of(case.network)
    return Finding(
        f"It makes latents of {side}x{side}, and the stored training latents are {trained}x{trained} (should be the "
        "same).",
        f"The network is built in another way than it was trained: sample_size is {side}",
        f'{config_of(part)}: "sample_size": {trained}',
        severity=3,
    )


def _error_told_the_best_timestep(case: Case, probes: list[Probe]) -> float:
    """What is left of an error that a wrong schedule explains."""

    def answer(told: int) -> Answer:
        return lambda probe: case.predict(probe.z_t, told, probe.labels)

    answers = [answer(told) for told in spread(max(DEFAULT_NUM_TIMESTEPS, case.num_timesteps), TIMESTEPS_TOLD).tolist()]
    errors = [min(error_over_white([probe], told) for told in answers) * probe.white for probe in probes]
    return sum(errors) / sum(probe.white for probe in probes)


def _as_json(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _answer_of(case: Case, network: nn.Module) -> Answer:
    denoiser = case.denoiser_of(network)
    return lambda probe: case.predict(probe.z_t, probe.timestep, probe.labels, denoiser)


def _rebuilt(network: UNet2DModel | DiTTransformer2DModel) -> Iterator[tuple[dict[str, Any], nn.Module]]:
    """The same weights in networks with one setting changed, where they fit, with the fields that say so."""
    for fields in _alternatives(network):
        if any(network.config[field] != value for field, value in fields.items()):
            try:
                other = rebuilt(network, **fields)
            except (ValueError, RuntimeError, ZeroDivisionError):  # widths that this number does not divide
                continue
            yield fields, other


def _alternatives(network: UNet2DModel | DiTTransformer2DModel) -> Iterator[dict[str, Any]]:
    if not isinstance(network, DiTTransformer2DModel):
        yield from ({field: value} for field, values in OF_A_UNET.items() for value in values)
        return
    width = network.config.num_attention_heads * network.config.attention_head_dim
    for channels in (channels for channels in HEAD_DIMS if width % channels == 0):
        yield {"num_attention_heads": width // channels, "attention_head_dim": channels}
    yield from ({"activation_fn": name} for name in ("gelu-approximate", "linear-silu"))


def _rescaled(case: Case, probes: list[Probe]) -> tuple[list[float], float]:
    """What the output would have to be multiplied with at every probe, and its error with the middle one of them."""
    outputs = {probe.timestep: own_answer(case)(probe) for probe in probes}
    products = [(outputs[probe.timestep] * probe.wanted).sum() for probe in probes]
    squares = [outputs[probe.timestep].square().sum().clamp_min(1e-12) for probe in probes]
    scales = [float(product / square) for product, square in zip(products, squares, strict=True)]
    middle = sorted(scales)[len(scales) // 2]
    return scales, error_over_white(probes, lambda probe: middle * outputs[probe.timestep])


def output_scale(case: Case) -> Finding:
    """What the output has to be multiplied with to fit best: 1 for what least squares made, whatever it knows."""
    probes = _probes(case)
    scales, scaled = _rescaled(case, probes)
    middle, own = sorted(scales)[len(scales) // 2], error_over_white(probes, own_answer(case))
    factors, where = ", ".join(f"{scale:.2f}" for scale in scales), ", ".join(str(probe.timestep) for probe in probes)
    evidence = f"Its output fits best when multiplied by {factors} at t = {where} (should be 1)"
    part = part_of(case.network)
    apart = max(SAME_SCALE, middle**SHARE, middle**-SHARE) if middle > 0 and is_better(scaled, own) else SAME_SCALE
    alike = min(scales) > 0 and max(scales) < apart * min(scales)
    if not (alike and not 1 / OFF_SCALE < middle < OFF_SCALE and scaled < FITS):
        return Finding(f"{evidence}.")
    return Finding(
        f"{evidence}; then its error falls from {own:.2f} to {scaled:.2f} of the white floor.",
        f"The output is {1 / middle:.2g} times what it was trained to be",
        f"{part}/: {LAST_LAYER[part]}, or what scales the output, is not that of training",
        severity=3,
    )
