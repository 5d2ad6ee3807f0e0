"""The checks of a folder, one entry each, from the most specific fault to the most general symptom."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks import (
    autoencoder,
    behaviour,
    construction,
    ends,
    index,
    labels,
    latent_scale,
    networks,
    paths,
    samples,
    settings,
    training,
)
from ldm_explorer.diagnosis.verdicts import Finding

Need = Literal["autoencoder", "denoiser", "images", "log"]


@dataclass(frozen=True)
class Check:
    """`run` returns what it found or raises `NotRun`."""

    name: str
    title: str
    run: Callable[[Case], Finding]
    needs: tuple[Need, ...]
    explains: tuple[str, ...] = ()  # the checks that fail as a side effect of what this one finds
    asks_networks: bool = True  # and so cannot run where weights are not finite
    judges_students: bool = True  # what was distilled answers on its own few steps alone, and not as a denoiser does
    sees_common_faults: bool = False  # where most of these are not run, a folder is not judged


_QUALITY = ("learned", "samples")
_ANSWER = ("prediction_type", "schedule_by_behaviour", "labels_match", *_QUALITY)
_BEHAVIOUR = ("path", "channel_order", "output_scale", "network_config", *_ANSWER)

CHECKS: tuple[Check, ...] = (
    Check(
        "finite",
        "Finite weights and outputs",
        networks.finite,
        (),
        ("label_response", *_BEHAVIOUR),
        asks_networks=False,
    ),
    Check(
        "collapse",
        "The latent says something of the image",
        autoencoder.collapse,
        ("autoencoder", "images"),
        ("latent_scale", "round_trip", "label_response", *_BEHAVIOUR),
        sees_common_faults=True,
    ),
    Check(
        "latent_scale",
        "Latents are normalised",
        latent_scale.latent_scale,
        ("autoencoder", "images"),
        _BEHAVIOUR,
        sees_common_faults=True,
    ),
    Check(
        "round_trip",
        "Images survive the autoencoder",
        autoencoder.round_trip,
        ("autoencoder", "images"),
        _BEHAVIOUR,
        sees_common_faults=True,
    ),
    Check(
        "time_response",
        "The timestep matters",
        networks.time_response,
        ("denoiser",),
        ("label_response", *_BEHAVIOUR),
        judges_students=False,
        sees_common_faults=True,
    ),
    Check("label_response", "The class label matters", labels.label_response, ("denoiser",), _BEHAVIOUR),
    Check(
        "path",
        "Trained and sampled on one path from data to noise",
        paths.path,
        ("denoiser",),
        ("channel_order", "schedule", "terminal_snr", "output_scale", "network_config", *_ANSWER),
    ),
    Check(
        "channel_order",
        "Channels come as in training",
        construction.channel_order,
        ("denoiser",),
        ("output_scale", "network_config", *_ANSWER),
        judges_students=False,
    ),
    Check(
        "network_config",
        "The denoiser is built as it was trained",
        construction.network_config,
        ("denoiser",),
        ("output_scale", *_ANSWER),
        judges_students=False,
    ),
    Check(
        "output_scale",
        "The output has the scale of training",
        construction.output_scale,
        ("denoiser",),
        _ANSWER,
        judges_students=False,
    ),
    Check(
        "prediction_type",
        "The prediction type is what the network predicts",
        behaviour.prediction_type,
        ("denoiser",),
        ("schedule_by_behaviour", "terminal_snr", "labels_match", *_QUALITY),
        judges_students=False,
        sees_common_faults=True,
    ),
    Check(
        "schedule",
        "Trained and sampled along one schedule",
        settings.sampled_schedule,
        ("denoiser",),
        ("terminal_snr", "labels_match", *_QUALITY),
        asks_networks=False,
        sees_common_faults=True,
    ),
    Check(
        "schedule_by_behaviour",
        "The schedule is the one the network answers to",
        behaviour.schedule_by_behaviour,
        ("denoiser",),
        ("terminal_snr", "labels_match", *_QUALITY),
        judges_students=False,
        sees_common_faults=True,
    ),
    Check(
        "terminal_snr",
        "The end of the schedule suits the prediction type",
        ends.terminal_snr,
        ("denoiser",),
        _QUALITY,
        asks_networks=False,
    ),
    Check("clipping", "Samples are not clipped", settings.clipping, ("denoiser",), _QUALITY, asks_networks=False),
    Check(
        "spacing",
        "Sampling starts at the end of the schedule",
        ends.spacing,
        ("denoiser",),
        ("samples",),
        asks_networks=False,
    ),
    Check(
        "scheduler_class",
        "Loaded as the scheduler that it is",
        index.scheduler_class,
        ("denoiser",),
        ("samples",),
        asks_networks=False,
    ),
    Check(
        "sampler",
        "Sampled as it was made for",
        index.sampler_and_steps,
        ("denoiser",),
        ("samples",),
        asks_networks=False,
    ),
    Check(
        "labels_match",
        "Labels mean their own class",
        labels.labels_match,
        ("denoiser",),
        _QUALITY,
        judges_students=False,
    ),
    Check(
        "stability",
        "Training stayed stable",
        training.stability,
        ("log",),
        _QUALITY,
        asks_networks=False,
    ),
    Check(
        "learned",
        "The network has learned something",
        behaviour.learned,
        ("denoiser",),
        ("samples",),
        judges_students=False,
        sees_common_faults=True,
    ),
    Check(
        "samples",
        "Samples are spread like the data",
        samples.spread_of_samples,
        ("denoiser",),
        sees_common_faults=True,
    ),
)
