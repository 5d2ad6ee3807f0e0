"""Measure checkpoints and folders of samples, one after the other, and keep the measures beside the weights."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import DatasetSpec, find_pictures, load_split, to_uint8
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.evaluation.classifier import (
    classifier_folder,
    further_folders,
    knows_classes,
    load_classifier,
    load_further,
)
from ldm_explorer.evaluation.config import SEEDS, EvaluationConfig, few_evaluations
from ldm_explorer.evaluation.cost import measure_cost
from ldm_explorer.evaluation.generation import decoded_noise, generate
from ldm_explorer.evaluation.parts import Parts, digest, partial_file, rounded
from ldm_explorer.evaluation.processes import OneProcess, Processes
from ldm_explorer.evaluation.reconstruction import reconstruct
from ldm_explorer.evaluation.reference import Reference, mean_and_spread
from ldm_explorer.evaluation.subjects import SampleFolder, Subject, locked_runs
from ldm_explorer.evaluation.variety import NUM_NEIGHBOURS
from ldm_explorer.files import first_line
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import METRICS_FILE
from ldm_explorer.samplers import takes_evaluations


class Evaluation:
    """Measures one checkpoint after the other; what several of them share is measured once."""

    def __init__(
        self,
        config: EvaluationConfig,
        processes: Processes | None = None,
        say: Callable[[str], object] = lambda _: None,
    ):
        """`say` is given a line on each folder of pictures that is measured, or measured against."""
        self.say = say
        self.config, self.processes, self.subject = config, processes or OneProcess(), ""
        torch.backends.cudnn.allow_tf32 = False  # it keeps 10 bits, and a GPU's measures would not be those of a CPU
        self.reference = cache(self._reference)
        self._of_autoencoders: dict[tuple[Reference, str], dict[str, Any]] = {}
        self._not_copied: dict[tuple[Reference, str], Tensor] = {}

    def batched(self, function: Callable[[Tensor], Tensor], inputs: Tensor, description: str = "") -> Tensor:
        """The processes' `BatchMap`, which says what is being measured."""
        return self.processes.batched(function, inputs, f"{self.subject}: {description}")

    def _reference(self, dataset: str, image_side: int | None, spec: DatasetSpec, classifier: Path) -> Reference:
        load = partial(load_split, dataset, data_dir=self.config.data_dir, image_side=image_side)
        if (pictures := find_pictures(dataset, image_side)) is not None:
            self.say(pictures.summary)
        with self.processes.local_main_process_first():  # one downloads, the others find it
            images = load("train"), load("validation"), load("test")
        network = load_classifier(classifier, spec).to(self.processes.device)
        further = {
            name: load_further(name, folder, spec).to(self.processes.device)
            for name, folder in further_folders(dataset, classifier.parent).items()
        }
        knows = knows_classes(classifier, spec)
        return Reference(spec, network, *images, self.config.num_images, self.batched, knows, further)

    def check(self, subjects: Iterable[Subject]) -> None:
        """Raise `ValueError` where there is no classifier to measure with, no place to keep measures or no compiler."""
        for subject in subjects:
            _, _, spec, classifier = self.reference_key(subject)
            load_classifier(classifier, spec)
            if isinstance(subject, Checkpoint) and RunFolder(subject.folder).is_marked:
                RunFolder(subject.folder).check([METRICS_FILE, partial_file(self.section(subject))])
        if self.config.compile:
            check_that_it_compiles(self.processes.device)

    def measure_all(self, subjects: dict[str, Subject]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the measures of each by its name; those of runs of ours are stored in their folders.

        Raises `FolderRefused` where another process writes in one of these.
        """
        with locked_runs(subjects.values()) if self.processes.is_main_process else nullcontext():
            for name, subject in subjects.items():
                if isinstance(subject, Checkpoint):
                    yield name, self.measure(subject)
                else:
                    yield name, self.measure_samples(subject)

    def section(self, checkpoint: Checkpoint) -> str:
        """In metrics.json: measures by another classifier than the checkpoint would be measured with have their own."""
        section = self.config.section(checkpoint.sampling)
        own, given = classifier_folder(checkpoint.dataset, checkpoint.folder.parent), self.config.features
        if given is None or own is None or (weights := digest(given)) == digest(own):
            return section
        return f"{section}_by_{given.resolve().name}_{weights[:6]}"

    def reference_key(self, subject: Subject) -> tuple:
        """What `reference` takes. Raises `ValueError` where there is no classifier to measure with."""
        classifier = self.config.features or classifier_folder(subject.dataset, subject.folder.parent)
        if classifier is None:
            raise ValueError(no_classifier(subject.name, subject.dataset, subject.spec))
        image_side = self.config.image_side
        if isinstance(subject, Checkpoint):
            image_side = subject.config.get("image_side")
        return subject.dataset, image_side, subject.spec, classifier

    def conditions(self, checkpoint: Checkpoint, key: tuple) -> dict[str, Any]:
        """What measures depend on besides the code."""
        dataset, image_side, _, classifier = key
        sampling = {}
        if self.config.few_evaluations:
            samplers, counts = few_evaluations(checkpoint, self.config.sampler)
            sampling = {"sampler": list(samplers), "evaluations": list(counts)}
        elif checkpoint.has_denoiser:
            sampler, num_steps = self.config.sampling(checkpoint.sampling)
            sampling = {"sampler": sampler, "evaluations": num_steps}
        return sampling | {
            "weights": digest(checkpoint.folder),
            "classifier": digest(classifier),
            "further": {name: digest(folder) for name, folder in further_folders(dataset, classifier.parent).items()},
            "dataset": dataset,
            "image_side": image_side,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "threads": torch.get_num_threads(),
            "compiled": self.config.compile and checkpoint.has_denoiser,
            "device": self.processes.device.type,
        }

    def measure(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """All measures of one checkpoint, stored in its metrics.json."""
        self.subject = checkpoint.name
        key = self.reference_key(checkpoint)
        conditions = self.conditions(checkpoint, key)
        parts = Parts(checkpoint, self.section(checkpoint), conditions, self.config.resume, self.processes)
        if (finished := parts.finished()) is not None:
            return finished
        network = checkpoint.pipeline if checkpoint.has_denoiser else checkpoint.vae
        network.to(self.processes.device)
        measured = self._few_evaluations if self.config.few_evaluations else self._everything
        return parts.finish(measured(checkpoint, self.reference(*key), parts))

    def _everything(self, checkpoint: Checkpoint, reference: Reference, parts: Parts) -> dict[str, Any]:
        of_a_denoiser = checkpoint.has_denoiser and not checkpoint.teacher  # a student's has no floors
        logged = of_a_denoiser and checkpoint.log()  # there is none for what another program trained
        loss = {"loss": loss_measures(checkpoint)} if logged else {}
        codec, key = checkpoint.codec, (reference, digest(checkpoint.folder, checkpoint.model.vae or ""))
        known = self._of_autoencoders.setdefault(key, {})
        for name in ("reconstruction", "latent_space", "continuity") if checkpoint.model.vae else ():
            known[name] = known.get(name) or parts.measure(name, partial(getattr(reference, name), codec))
        measures = known | loss | {"cost": asdict(measure_cost(checkpoint))}
        if checkpoint.has_denoiser:
            measures["generation"] = self._generation(checkpoint, reference, parts)
        return measures

    def _generation(self, checkpoint: Checkpoint, reference: Reference, parts: Parts) -> dict[str, Any]:
        """Samples at guidance 1, labels balanced: mean and spread over sampling seeds."""
        config, pipeline = self.config, self._pipeline(checkpoint)
        sampler, num_steps = config.sampling(checkpoint.sampling)

        def of_noise() -> dict[str, Any]:
            arguments = (pipeline.codec, pipeline.latent_shape, reference.spec, config.num_images, self.batched)
            return {"fd_percent": reference.fd_percent(decoded_noise(*arguments))}

        measures = [
            parts.measure(f"seed {seed}", partial(self._samples, checkpoint, reference, seed)) for seed in config.seeds
        ]
        return {
            "num_images": config.num_images,
            "seeds": list(config.seeds),
            "sampler": sampler,
            "evaluations": num_steps,
            **mean_and_spread(measures),
            "fd_decoded_noise_percent": parts.measure("decoded noise", of_noise)["fd_percent"],
            **reference.context(config.num_images),
        }

    def _pipeline(self, checkpoint: Checkpoint) -> LatentDiffusionPipeline:
        """Ready to sample from; its operations cannot be counted any more once it is compiled."""
        if self.config.compile:
            checkpoint.pipeline.network.compile()
        return checkpoint.pipeline

    def _samples(self, checkpoint: Checkpoint, reference: Reference, seed: int) -> dict[str, Any]:
        config, pipeline = self.config, checkpoint.pipeline
        arguments = (pipeline, reference.spec, config.num_images, seed)
        sampler, num_steps = config.sampling(checkpoint.sampling)
        made = generate(*arguments, num_steps=num_steps, sampler=sampler, batched=self.batched)
        labels = made.labels if pipeline.denoiser.num_classes else None
        measures = reference.samples(made.images, labels, self._distances_if_not_copied(checkpoint, reference))
        return measures | {"latents_std": float(made.latents.std())}

    def _distances_if_not_copied(self, checkpoint: Checkpoint, reference: Reference) -> Tensor:
        """The distances of reconstructed test images to known ones: what the decoder does to an image that is new."""
        key = reference, digest(checkpoint.folder, checkpoint.model.vae or "")
        if key not in self._not_copied:
            images = reconstruct(checkpoint.codec, reference.padded, reference.spec, self.batched)
            self._not_copied[key] = reference.distances_to_known(to_uint8(images))
        return self._not_copied[key]

    def _few_evaluations(self, checkpoint: Checkpoint, reference: Reference, parts: Parts) -> dict[str, Any]:
        """Feature FD for every sampler and number of evaluations, from the same noise."""
        pipeline = self._pipeline(checkpoint)
        samplers, counts = few_evaluations(checkpoint, self.config.sampler)

        def distance(sampler: str, num_steps: int) -> dict[str, Any]:
            arguments = (pipeline, reference.spec, self.config.num_images, SEEDS[0])
            made = generate(*arguments, num_steps=num_steps, sampler=sampler, batched=self.batched)
            return {"fd_percent": reference.fd_percent(made.images)}

        def point(sampler: str, steps: int) -> dict[str, Any]:
            if not takes_evaluations(sampler, steps):
                return {"fd_percent": None}
            return parts.measure(f"{sampler} {steps}", partial(distance, sampler, steps))

        curves = {sampler: [point(sampler, steps) for steps in counts] for sampler in samplers}
        return {
            "num_images": self.config.num_images,
            "seed": SEEDS[0],
            "fd_floor_percent": reference.context(self.config.num_images)["fd_floor_percent"],
            "evaluations": list(counts),
            "fd_percent": {name: [point["fd_percent"] for point in curve] for name, curve in curves.items()},
        }

    def measure_samples(self, samples: SampleFolder) -> dict[str, Any]:
        """The measures of a folder of pictures, beside the test images themselves where copying is asked about."""
        self.subject = samples.name
        self.say(samples.summary)
        if len(samples.images) <= NUM_NEIGHBOURS:
            raise ValueError(f"{samples.name} has {len(samples.images)} images: give more than {NUM_NEIGHBOURS}")
        reference = self.reference(*self.reference_key(samples))
        measures = reference.samples(samples.images, samples.labels, reference.distances_to_known(reference.images))
        count = len(samples.images)
        return {"generation": rounded({"num_images": count} | measures | reference.context(count))}


def no_classifier(name: str, dataset: str, spec: DatasetSpec) -> str:
    """What to do where there is no reference."""
    if not spec.num_classes:
        return (
            f"{name} was trained on images without classes: distances are measured in the features of a classifier, so "
            "give the folder of one of similar images with --features"
        )
    return (
        f"no classifier to measure {name} with: train one with train/features.py --dataset {dataset}, or give the "
        "folder of one with --features"
    )


def loss_measures(checkpoint: Checkpoint) -> dict[str, Any]:
    """The logged validation loss beside the floors of the latents it was trained on."""
    reading = read_loss(checkpoint)
    return {
        "prediction": reading.prediction_type,
        "validation_last_tenth": reading.validation_last_tenth,
        "validation_minimum": reading.validation_minimum,
        "validation_per_bin": list(reading.validation_per_bin),
        "floors": reading.mean_floors,
        "floors_per_bin": reading.floors_per_bin(),
    }


def check_that_it_compiles(device: torch.device) -> None:
    """Raise `ValueError` where torch.compile does not work."""
    try:
        torch.compile(torch.sin)(torch.zeros(1, device=device))
    except RuntimeError as error:
        raise ValueError(f"torch.compile does not work here, leave out --compile: {first_line(error)}") from error
