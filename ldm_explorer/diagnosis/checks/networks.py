"""Checks of the networks alone: finite numbers, and whether the timestep and the label reach the output."""

import torch
from torch import Tensor

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.known import non_finite
from ldm_explorer.diagnosis.verdicts import Finding, NotRun
from ldm_explorer.networks import part_of
from ldm_explorer.prediction import add_noise
from ldm_explorer.run_layout import TRANSFORMER, UNET, VAE, config_of

DEAD = 1e-5
"""A relative change of the output below this is rounding; untrained networks already show more."""


def finite(case: Case) -> Finding:
    """Weights and outputs hold neither NaN nor infinity."""
    counted = 0
    denoiser = {} if case.network is None else {part_of(case.network): case.network}
    for part, network in (denoiser | ({} if case.vae is None else {VAE: case.vae})).items():
        counted += sum(tensor.numel() for tensor in network.state_dict().values())
        if broken := non_finite(network):
            name, values = next(iter(broken.items()))
            return Finding(
                f"{part}: {sum(broken.values())} values in {len(broken)} tensors are NaN or infinite (should be 0), "
                f"{values} of them in {name}.",
                "Weights are not finite",
                f"{part}/: take the weights of an earlier state; train with a lower learning rate, clipping or in fp32",
                severity=3,
            )
    for name, output in _outputs(case):
        if not bool(output.isfinite().all()):
            return Finding(
                f"All weights are finite, {name} is not.",
                "The output is not finite",
                "run it in fp32, and look at the largest weights",
                severity=3,
            )
    return Finding(f"All {counted / 1e6:.2f} M weights and the outputs for noise are finite.")


@torch.no_grad()
def _outputs(case: Case):
    generator = torch.Generator().manual_seed(0)
    if case.network is not None:
        noise = torch.randn(2, *case.shape, generator=generator)
        for timestep in (0, case.num_timesteps // 2, case.num_timesteps - 1):
            yield f"the denoiser's output for noise at t = {timestep}", case.predict(noise, timestep, None)
    if case.vae is not None:
        pixels = torch.rand(2, case.vae.config.in_channels, case.image_side, case.image_side, generator=generator)
        latents = case.codec.encode(pixels * 2 - 1)
        yield "the encoder's output for noise", latents
        yield "the decoder's output for noise", case.codec.decode(torch.randn(latents.shape, generator=generator))


def relative_change(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / one.norm().clamp_min(1e-12))


def half_noised(case: Case, share_of_time: float) -> tuple[Tensor, int]:
    known = case.known_latents()
    z0 = known.z0[:: max(1, len(known.z0) // case.batch_size)][: case.batch_size]
    timestep = int(share_of_time * (case.num_timesteps - 1))
    eps = torch.randn(z0.shape, generator=torch.Generator().manual_seed(2))
    return add_noise(z0, eps, case.amplitudes[timestep]), timestep


def time_response(case: Case) -> Finding:
    """The same noisy latents, told another timestep: the output has to change."""
    z_t, timestep = half_noised(case, 0.5)
    told = (int(0.1 * case.num_timesteps), int(0.9 * case.num_timesteps))
    low, high = (case.predict(z_t, t, None) for t in told)
    if not (low.any() or high.any()):
        raise NotRun("its output is 0 whatever it is told, as that of a transformer is before its first step")
    change = relative_change(low, high)
    if not change >= DEAD:
        return Finding(
            f"Told t = {told[0]} or t = {told[1]}, the output differs by {change:.1g} of its size (in a trained "
            "network by tenths).",
            "The network does not hear the timestep",
            _why_time_is_lost(case),
            severity=3,
        )
    return Finding(f"Told t = {told[0]} or t = {told[1]} of z_t at t = {timestep}, the output differs by {change:.0%}.")


def _why_time_is_lost(case: Case) -> str:
    if part_of(case.network) == TRANSFORMER:
        return f"{TRANSFORMER}/: the blocks' timestep_embedder is dead; pass the timesteps in training, and train again"
    config = case.required_network.config
    alone = config.norm_num_groups in config.block_out_channels and config.resnet_time_scale_shift == "default"
    if alone:  # the timestep is added as one number per channel, and a channel normalised alone loses it again
        return f'{config_of(UNET)}: "norm_num_groups" below {config.norm_num_groups}, the width, and train again'
    return "unet/: time_embedding is dead; pass the timesteps in training, and train again"
