"""What goes wrong with a flow's velocity, its time and its shift, and with the two things that are called velocity.

All of them have happened to others: data at s = 1 (Mochi, Hunyuan3D), s told in place of 1000 s (SiT, issue 24),
a shift that is applied twice (diffusers, issue 13243).
"""

from ldm_explorer.diagnosis import changes
from ldm_explorer.diagnosis.fault import Fault

FAR_SHIFT = 36.0
"""A shift of 6, applied twice."""

FLOW_FAULTS: dict[str, Fault] = {
    "other_velocity": Fault(
        title="The other velocity: u read as v, or v as u",
        what_happens="Two things are called velocity: v = a eps - b z0 along betas, and u = eps - z0 along a flow. "
        "Read as the other, and walked along the other path, it takes the wrong share of noise away at every step.",
        fix='FlowMatchEulerDiscreteScheduler for u; for v the betas of training and "prediction_type": "v_prediction"',
        symptom="latents_std",
        inject=changes.other_velocity,
        fixed=changes.right_path,
        in_folder=True,
        found_by=("path",),
    ),
    "opposite_velocity": Fault(
        title="The velocity's sign turned around",
        what_happens="Trained on z0 - eps and sampled as eps - z0, or the other way round: every step goes away from "
        "the image, and the latents grow.",
        fix="target = eps - z0 for u, a * eps - b * z0 for v, as diffusers' samplers read them",
        symptom="latents_std",
        inject=changes.opposite_velocity,
        fixed=changes.right_denoiser,
        in_folder=True,
    ),
    "reversed_time": Fault(
        title="Flow: time runs the other way",
        what_happens="In many papers data lies at s = 1, in diffusers at s = 0. A network of one told the time of the "
        "other takes noise for an image, and an image for noise.",
        fix="network(z, 1000 * s), z = (1 - s) * z0 + s * eps",
        symptom="roughness",
        inject=changes.reversed_time,
        fixed=changes.right_denoiser,
        in_folder=True,
        along="a flow",
        elsewhere="along betas data lies at t = 0 in every convention",
    ),
    "time_as_share": Fault(
        title="Flow: told s in [0, 1] in place of 1000 s",
        what_happens="Some networks take s and multiply it by 1,000 themselves, others are told 1000 s, as diffusers' "
        "timesteps are. Told s, these hear next to 0 all the way: that there is no noise.",
        fix="network(z, scheduler.timesteps[i]), not scheduler.sigmas[i]",
        symptom="latents_std",
        inject=changes.time_as_share,
        fixed=changes.right_denoiser,
        in_folder=True,
        along="a flow",
        elsewhere="along betas the network is told the number of a step, and no share",
    ),
    "time_before_shift": Fault(
        title="Flow: noise shifted, the time that is told not",
        what_happens="A shift of 3 moves the steps to where noise is. If the network is still told the time "
        "before it, it hears of less noise than there is, and leaves the difference in.",
        fix="s = shift * s / (1 + (shift - 1) * s), then both: z at s, network(z, 1000 * s)",
        symptom="latents_std",
        inject=changes.time_before_shift,
        fixed=changes.right_denoiser,
        base=changes.shifted_steps,
        in_folder=True,
        along="a flow",
        elsewhere="along betas no step is shifted",
    ),
    "far_shift": Fault(
        title="Flow: a shift far too large, with few steps",
        what_happens="A shift spends the steps where noise is. Made for large images, or applied twice, it leaves "
        "most of the way to the last step: that one answers with a mean, and details are missing. Here it is "
        f"{FAR_SHIFT:g} times what the run has.",
        fix='scheduler_config.json: "shift": 1.0, or as in training',
        symptom="latents_std",
        inject=changes.shifted_by(FAR_SHIFT),
        fixed=changes.own("flow_shift"),
        base=changes.few_steps,
        in_folder=True,
        along="a flow",
        elsewhere="along betas no step is shifted",
    ),
}
