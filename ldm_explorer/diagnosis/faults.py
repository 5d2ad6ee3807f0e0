"""What goes wrong with latent diffusion: each fault breaks one thing of a sampling run that was right.

An entry here, or among those of `flow_faults`, shows up in the room on faults and in the tests over all entries.
"""

from functools import cache

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.diagnosis import changes
from ldm_explorer.diagnosis.fault import Fault
from ldm_explorer.diagnosis.flow_faults import FLOW_FAULTS
from ldm_explorer.diagnosis.sampling import Sampling
from ldm_explorer.shipped import shipped_checkpoints


@cache
def lab_checkpoint(name: str) -> Checkpoint:
    """A run of checkpoints/lab, made for a fault that only training can show; its weights are loaded once.

    Their commands are in checkpoints/README.md. Raises `CheckpointError` where the shipped checkpoints are not here.
    """
    return read_checkpoint(shipped_checkpoints("lab", name))


def lab_sampling(name: str) -> Sampling:
    """The same, sampled as it should be."""
    return Sampling.right(lab_checkpoint(name).pipeline)


def _of_training(right: str, broken: str) -> dict:
    return {
        "inject": lambda _: lab_sampling(broken),
        "fixed": lambda _: lab_sampling(right),
        "lab_run": right,
        "broken_run": broken,
        "in_folder": True,
    }


FAULTS: dict[str, Fault] = {
    "clip_sample": Fault(
        title="Latents clipped to [-1, 1]",
        what_happens="A third of a unit Gaussian lies beyond 1. DDPMScheduler and DDIMScheduler cut it off at every "
        "step unless told otherwise, which suits pixels, not latents: these come out narrow, the images flat.",
        fix='scheduler_config.json: "clip_sample": false',
        symptom="latents_std",
        inject=changes.configured(clip_sample=True),
        fixed=changes.configured(clip_sample=False),
        in_folder=True,
        found_by=("clipping",),
        along="betas",
        elsewhere="samplers of flows clip nothing",
    ),
    "other_schedule": Fault(
        title="Sampled along another schedule than trained",
        what_happens="The network is told t, and takes from it how much noise there is; along another schedule there "
        "is more or less of it. Noise stays in the image, or details are taken for noise.",
        fix='scheduler_config.json: "trained_betas", or "beta_schedule", as in training',
        symptom="class_probability",
        inject=changes.other_schedule,
        fixed=changes.own("trained_betas"),
        in_folder=True,
        found_by=("schedule", "schedule_by_behaviour"),
        along="betas",
        elsewhere="a flow has no betas that could be others",
    ),
    "other_prediction": Fault(
        title="The output taken for another prediction type",
        what_happens="A velocity v = a eps - b z0 read as noise is noise minus image: z0 = (z - b v) / a comes out too "
        "large and with noise left in it, and the latents leave the range that the decoder knows.",
        fix='scheduler_config.json: "prediction_type" as in training',
        along_a_flow=(
            "A velocity u = eps - z0 read as noise is noise minus image: z0 = (z - s u) / (1 - s) comes out as "
            "z0 / (1 - s): right shapes, far too bright, near s = 1 without bound.",
            'scheduler_config.json: "_class_name": "FlowMatchEulerDiscreteScheduler", which reads u; '
            'DPMSolverMultistepScheduler reads what its "prediction_type" says',
        ),
        symptom="latents_std",
        inject=changes.other_prediction,
        fixed=changes.own("prediction_type"),
        in_folder=True,
        found_by=("prediction_type",),
    ),
    "not_normalised": Fault(
        title="An image's latents not normalised (image to image)",
        what_happens="The network learned latents of mean 0 and standard deviation 1 per channel, and is given what "
        "the encoder wrote: in Stable Diffusion's terms, times 0.18215 was forgotten.",
        fix="z = (vae.encode(x).latent_dist.mean - latents_mean) / latents_std",
        symptom="roughness",
        inject=changes.encode_raw,
        fixed=changes.right_codec,
        base=changes.image_to_image,
    ),
    "normalised_twice": Fault(
        title="An image's latents normalised twice (image to image)",
        what_happens="Two parts of a program each subtract the mean and divide by the standard deviation.",
        fix="normalise in one place: LatentCodec.encode does it already",
        symptom="psnr_to_original",
        inject=changes.encode_twice,
        fixed=changes.right_codec,
        base=changes.image_to_image,
    ),
    "decoded_raw": Fault(
        title="Decoded without undoing the normalisation",
        what_happens="The sampler's latents are right and the decoder is given them at the wrong scale: washed-out or "
        "distorted images of the right shapes.",
        fix="x = vae.decode(z * latents_std + latents_mean)",
        symptom="roughness",
        inject=changes.decode_raw,
        fixed=changes.right_codec,
        found_by=("latent_scale",),
    ),
    "leading_spacing": Fault(
        title="Leading timesteps with few steps",
        what_happens="With 8 steps diffusers' default spacing begins at t = 875 and not at 999: the network is given "
        "pure noise and told that there is an image in it (Lin et al. 2023).",
        fix='scheduler_config.json: "timestep_spacing": "trailing"',
        symptom="latents_std",
        inject=changes.configured(timestep_spacing="leading"),
        fixed=changes.own("timestep_spacing"),
        base=changes.few_steps,
        in_folder=True,
        found_by=("spacing",),
        along="betas",
        elsewhere="samplers of flows start where noise is, in however few steps",
    ),
    "step_index": Fault(
        title="The number of the step passed in place of the timestep",
        what_happens="for i, t in enumerate(timesteps): unet(z, i). The network is told that there is next to no noise "
        "when there is nothing else, and leaves it in.",
        fix="unet(z_t, t), with t out of scheduler.timesteps",
        symptom="class_probability",
        inject=changes.step_index,
        fixed=changes.right_denoiser,
    ),
    "labels_ignored": Fault(
        title="The label never reaches the network",
        what_happens="Every image is drawn with the null class: good images, of any class.",
        fix="unet(z_t, t, class_labels)",
        symptom="class_probability",
        inject=changes.labels_ignored,
        fixed=changes.right_labels,
        found_by=("label_response",),
    ),
    "labels_shifted": Fault(
        title="Labels shifted by one",
        what_happens="Good images of the wrong class: training counted classes from 0, the caller from 1.",
        fix="class_labels = labels, from 0 to K - 1; K means no label",
        symptom="class_probability",
        inject=changes.labels_shifted,
        fixed=changes.right_labels,
        found_by=("labels_match",),
    ),
    "epsilon_zero_snr": Fault(
        title="Epsilon at zero terminal SNR",
        what_happens="Where nothing of the image is left, epsilon says nothing of it: z0 = (z - b eps) / a divides by "
        "zero at the first step.",
        fix='train and sample with "prediction_type": "v_prediction", or keep a little signal at the end',
        symptom="latents_std",
        inject=changes.zero_terminal_snr,
        fixed=changes.right_scheduler,
        in_folder=True,
        lab_run="lab-normalised",
        found_by=("terminal_snr",),
    ),
    "middle_weights": Fault(
        title="Weights from the middle of training, not averaged",
        what_happens="Half-way the learning rate is still high, and the weights of one step are as noisy as its "
        "gradient; their moving average (EMA) is not.",
        fix="load the average of the last step, not the weights of some checkpoint on the way",
        symptom="class_probability",
        harmless="the classes asked for have a probability of .60 and .65, with the averaged weights at the end .64 to "
        ".82 over five seeds: worse, but hardly by more than seeds differ.",
        **_of_training("lab-healthy", "lab-middle-weights"),
    ),
    "raw_latents": Fault(
        title="Latents never scaled, in training",
        what_happens="The network learns latents of another standard deviation than the noise: the signal-to-noise "
        "ratio of every timestep is another than the schedule says.",
        fix="train on (z - latents_mean) / latents_std",
        symptom="class_probability",
        harmless="this encoder's latents have standard deviations of .9 to 1.8, near enough to 1. The network closed "
        "6 % of the gap below the Gaussian floor, on normalised latents 5 %, and the classes asked for have a "
        "probability of .56 and .63 beside .62 to .71 over five seeds. With another encoder it need not be.",
        **_of_training("lab-normalised", "lab-raw-latents"),
    ),
    "posterior_collapse": Fault(
        title="Posterior collapse",
        what_happens="The weight of the KL term was so high that the encoder writes the same for every image: the "
        "decoder knows one grey mean, and the denoiser learns pure noise.",
        fix="train/vae.py --kl-weight 1e-4",
        symptom="class_probability",
        **_of_training("lab-healthy", "lab-collapsed"),
        found_by=("collapse",),
    ),
    "high_learning_rate": Fault(
        title="Learning rate far too high, no warm-up, no clipping",
        what_happens="The first steps throw the weights to where only the scale of the latents can be learned.",
        fix="train/ldm.py --learning-rate 2e-3 --lr-warmup-steps 200 --grad-clip-norm 1",
        symptom="class_probability",
        **_of_training("lab-healthy", "lab-high-learning-rate"),
        found_by=("stability",),
    ),
    "few_steps": Fault(
        title="Far too few training steps",
        what_happens="60 steps teach the network the covariance at best: clouds of the right brightness.",
        fix="train longer: the loss still falls below the Gaussian floor",
        symptom="class_probability",
        **_of_training("lab-healthy", "lab-few-steps"),
        found_by=("learned",),
    ),
    **FLOW_FAULTS,
}
DEFAULT_FAULT = "other_prediction"
"""One that every network has, along whichever path it is sampled."""


def fault_of(check: str) -> str | None:
    """The fault that a check finds in a folder, None where it is none of these."""
    return next((name for name, fault in FAULTS.items() if check in fault.found_by), None)
