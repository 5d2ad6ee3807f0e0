"""Faults: each changes what it says, is undone by its fix, and shows in its figure."""

import json
import shutil
from functools import cache

import pytest
import torch
from diffusers import UNet2DModel

from ldm_explorer.checkpoints import read_checkpoint, save_pipeline
from ldm_explorer.denoiser import StandIn
from ldm_explorer.diagnosis.faults import FAULTS
from ldm_explorer.diagnosis.flow_faults import FAR_SHIFT, FLOW_FAULTS
from ldm_explorer.diagnosis.sampling import Sampling
from ldm_explorer.evaluation.classifier import load_classifier
from ldm_explorer.explore.faults import SYMPTOMS, Moment, Subject, final_symptom, run_experiment, run_sampling, set_up
from ldm_explorer.explore.report import REPORTED_LOSS, STAGES, read_stages, white_floor_curves
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.prediction import target, to_eps
from ldm_explorer.run_layout import STATISTICS_FILE
from ldm_explorer.samplers import denoise, final_latents, make_scheduler
from ldm_explorer.schedules import FlowSchedule, make_schedule
from ldm_explorer.shipped import shipped_checkpoints

OF_SAMPLING = [name for name, fault in FAULTS.items() if fault.lab_run is None]
ALONG_BETAS = [name for name in OF_SAMPLING if FAULTS[name].along != "a flow"]
ALONG_A_FLOW = [name for name in OF_SAMPLING if FAULTS[name].along != "betas"]
OF_TRAINING = [name for name, fault in FAULTS.items() if fault.broken_run]
SEEDS = [100 * index for index in range(5)]
CLASSIFIER = shipped_checkpoints() / "fashion_mnist" / "features"
SMALL = shipped_checkpoints() / "sizes" / "size-8x8x4"
"""A denoiser that is well trained, and samples in less than half of the flagship's time."""
TRAINED_FOR_IT = shipped_checkpoints("lab")


@pytest.fixture(scope="module")
def exact_flow(tmp_path_factory):
    """A flow over the latents of a shipped run, for denoisers that need no training."""
    folder = tmp_path_factory.mktemp("exact") / "fashion_mnist" / "exact-flow"
    pipeline = shipped(SMALL)[0].pipeline
    save_pipeline(folder, pipeline.vae, pipeline.unet, make_scheduler(FlowSchedule(1000), "flow"))
    shutil.copy(SMALL / STATISTICS_FILE, folder)
    return folder


@cache
def shipped(folder):
    checkpoint = read_checkpoint(folder)
    return checkpoint, load_classifier(CLASSIFIER, checkpoint.spec)


@cache
def right_results(folder, base) -> list[tuple[Moment, Subject]]:
    """Of the right run over five sampling seeds; faults with the same right run share it."""
    checkpoint, classifier = shipped(folder)
    subjects = [Subject.of(checkpoint, classifier, seed) for seed in SEEDS]
    right = base(Sampling.right(checkpoint.pipeline))
    return [(list(run_sampling(right, subject))[-1], subject) for subject in subjects]


def healthy_figures(folder, fault_name: str) -> list[float]:
    fault = FAULTS[fault_name]
    return [SYMPTOMS[fault.symptom](*result) for result in right_results(folder, fault.base)]


def figures(fault_name: str, folder, change) -> list[float]:
    checkpoint, classifier = shipped(folder)
    experiment = set_up(checkpoint, fault_name)
    sampling = change(experiment)
    symptom = experiment.fault.symptom
    return [final_symptom(sampling, Subject.of(checkpoint, classifier, seed), symptom) for seed in SEEDS[:2]]


@pytest.fixture
def tiny(ldm_folder):
    return read_checkpoint(ldm_folder)


def latents(sampling: Sampling, subject: Subject) -> torch.Tensor:
    *_, last = run_sampling(sampling, subject)
    return torch.cat([last.z0.flatten(), last.predicted.float().flatten()])


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        *(("ldm_folder", name) for name in ALONG_BETAS),
        *(("transformer_folder", name) for name in ("step_index", "labels_ignored", "other_velocity")),
        *(("flow_folder", name) for name in ALONG_A_FLOW),
    ],
)
def test_a_fault_changes_the_run_and_its_fix_undoes_it(folder, name, request):
    tiny = read_checkpoint(request.getfixturevalue(folder))
    subject = Subject.of(tiny, None, seed=0, num_images=3)
    experiment = set_up(tiny, name)
    right = latents(experiment.right, subject)
    assert not torch.equal(latents(experiment.broken, subject), right)
    assert torch.equal(latents(FAULTS[name].fixed(experiment.broken), subject), right)


@pytest.mark.parametrize("name", [*ALONG_BETAS, "epsilon_zero_snr"])
def test_the_symptom_lies_outside_the_right_runs_and_the_fix_brings_it_back(name):
    fault = FAULTS[name]
    folder = TRAINED_FOR_IT / fault.lab_run if fault.lab_run else SMALL
    healthy = healthy_figures(folder, name)
    broken = figures(name, folder, lambda experiment: experiment.broken)
    assert all(not min(healthy) <= figure <= max(healthy) for figure in broken), (healthy, broken)
    fixed = figures(name, folder, lambda experiment: fault.fixed(experiment.broken))
    assert fixed == pytest.approx(healthy[:2], rel=1e-4)


@pytest.mark.parametrize("name", FLOW_FAULTS)
def test_the_symptom_shows_along_a_flow_that_is_known_exactly(exact_flow, name):
    checkpoint, fault = read_checkpoint(exact_flow), FAULTS[name]
    # a Gaussian looks the same from both of its ends
    experiment = set_up(checkpoint, name, "memorising" if name == "reversed_time" else "Gaussian")
    subjects = [Subject.of(checkpoint, None, seed) for seed in SEEDS]
    healthy = [final_symptom(experiment.right, subject, fault.symptom) for subject in subjects]
    broken = final_symptom(experiment.broken, subjects[0], fault.symptom)
    assert not min(healthy) <= broken <= max(healthy), (healthy, broken)


@pytest.mark.parametrize("name", OF_TRAINING)
def test_a_broken_training_shows_beside_its_right_run(name):
    fault = FAULTS[name]
    healthy = healthy_figures(TRAINED_FOR_IT / fault.lab_run, name)
    broken = figures(name, TRAINED_FOR_IT / fault.lab_run, lambda experiment: experiment.broken)
    spread = max(healthy) - min(healthy) if fault.harmless else 0
    apart = [not min(healthy) - spread <= figure <= max(healthy) + spread for figure in broken]
    assert apart == [not fault.harmless] * 2, (healthy, broken)


def test_a_flows_velocity_read_as_noise_is_as_its_words_say(exact_flow):
    """z0 / (1 - s), along a flow that is known exactly; the words are those of a flow, and of keys that it stores."""
    checkpoint = read_checkpoint(exact_flow)
    experiment = set_up(checkpoint, "other_prediction", "Gaussian")
    subject = Subject.of(checkpoint, None, seed=0, num_images=2)
    right, broken = (next(run_sampling(run, subject)) for run in (experiment.right, experiment.broken))
    s = right.timestep / 1000
    torch.testing.assert_close(broken.z0 * (1 - s), right.z0, rtol=1e-2, atol=1e-3)
    assert "z0 / (1 - s)" in experiment.fault.what_happens
    stored = json.loads((exact_flow / "scheduler" / "scheduler_config.json").read_text())
    assert f'"_class_name": "{stored["_class_name"]}"' in experiment.fault.fix
    assert set_up(shipped(SMALL)[0], "other_prediction").fault is FAULTS["other_prediction"]
    far = FAULTS["far_shift"]
    for shift in (1.0, 50.0):  # also of a run whose own shift is large
        own = experiment.right.configured(flow_shift=shift)
        assert far.inject(own).scheduler.config.flow_shift == pytest.approx(FAR_SHIFT * shift)
    assert f"Here it is {FAULTS['far_shift'].inject(experiment.right).scheduler.config.flow_shift:g}" in (
        FAULTS["far_shift"].what_happens
    )


def test_a_fault_that_a_path_does_not_have_is_refused_in_a_sentence(tiny, flow_folder):
    for name in {*OF_SAMPLING} - {*ALONG_A_FLOW}:
        with pytest.raises(ValueError, match="and tiny-flow is sampled along a flow: choose another fault"):
            set_up(read_checkpoint(flow_folder), name)
    for name in {*OF_SAMPLING} - {*ALONG_BETAS}:
        with pytest.raises(ValueError, match="and tiny-ldm is sampled along betas: choose another fault"):
            set_up(tiny, name)


@pytest.mark.parametrize("prediction", ["flow", "epsilon", "sample"])
def test_the_right_run_of_a_flow_gives_back_a_gaussian(tiny_pipeline, prediction):
    """Of standard deviation .5, where E[z0 | z] = a .25 z / (a^2 .25 + b^2)."""
    scheduler = make_scheduler(FlowSchedule(1000), prediction)
    pipeline = LatentDiffusionPipeline(tiny_pipeline.vae, tiny_pipeline.unet, scheduler)

    class Exact(StandIn):
        def forward(self, z_t, timestep, class_labels=None):  # noqa: ARG002 (as the others take)
            mixed = self.schedule.at(timestep)
            z0 = mixed.a * 0.25 * z_t / (mixed.a.square() * 0.25 + mixed.b.square())
            return target(self.prediction_type, z0, to_eps("sample", z0, z_t, mixed), mixed)

    sampling = Sampling.right(pipeline, Exact(pipeline.denoiser))
    noise = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    latents = final_latents(denoise(sampling.denoiser, sampling.scheduler, noise, num_steps=sampling.num_steps))
    assert latents.std() == pytest.approx(0.5, rel=0.06)


def test_both_runs_start_from_one_noise_and_go_step_by_step(tiny):
    subject = Subject.of(tiny, None, seed=3, num_images=2)
    frames = list(run_experiment(set_up(tiny, "clip_sample"), subject))
    assert [frame.index for frame in frames] == list(range(1, frames[0].total + 1))
    assert torch.equal(frames[0].right.z_t, frames[0].broken.z_t)
    assert frames[-1].broken_symptom < frames[-1].right_symptom


def test_image_to_image_begins_with_the_image(tiny):
    subject = Subject.of(tiny, None, seed=0, num_images=2)
    experiment = set_up(tiny, "normalised_twice")
    moments = list(run_sampling(experiment.right, subject))
    assert len(moments) == experiment.right.num_steps - experiment.right.first_step
    assert moments[0].timestep == 519  # 13 of 25 trailing steps of 40 are left


def test_an_unknown_fault_an_autoencoder_and_an_exact_denoiser_of_a_training_are_refused(tiny, vae_folder):
    with pytest.raises(ValueError, match="unknown fault 'gremlins'"):
        set_up(tiny, "gremlins")
    with pytest.raises(ValueError, match="is an autoencoder"):
        set_up(read_checkpoint(vae_folder), "clip_sample")
    with pytest.raises(ValueError, match="never trained"):
        set_up(tiny, "few_steps", "Gaussian")


@pytest.mark.parametrize(("length", "steps"), [(1000, 25), (60, 20), (57, 19)])
def test_steps_divide_the_schedule(tiny_pipeline, length, steps):
    pipeline = LatentDiffusionPipeline(
        tiny_pipeline.vae, tiny_pipeline.unet, make_scheduler(make_schedule("cosine", length), "v_prediction")
    )
    assert Sampling.right(pipeline).num_steps == steps


def test_a_schedule_of_prime_length_is_refused(tiny_pipeline):
    scheduler = make_scheduler(make_schedule("cosine", 61), "v_prediction")
    with pytest.raises(ValueError, match="divides 61"):
        Sampling.right(LatentDiffusionPipeline(tiny_pipeline.vae, tiny_pipeline.unet, scheduler))


def test_a_classifier_is_asked_for_where_there_is_none(tiny):
    with pytest.raises(ValueError, match="no classifier"):
        list(run_experiment(set_up(tiny, "labels_shifted"), Subject.of(tiny, None, seed=0)))


@pytest.mark.parametrize("name", ["labels_ignored", "labels_shifted"])
def test_a_fault_of_labels_needs_a_network_that_takes_labels(tiny_pipeline, name):
    config = dict(tiny_pipeline.unet.config) | {"num_class_embeds": None}
    unconditional = UNet2DModel.from_config(config)
    pipeline = LatentDiffusionPipeline(tiny_pipeline.vae, unconditional, tiny_pipeline.scheduler)
    with pytest.raises(ValueError, match="takes none: choose another checkpoint"):
        FAULTS[name].inject(Sampling.right(pipeline))


def test_the_scale_that_gives_the_reported_loss():
    scales = {(c.schedule, c.num_timesteps): c.std_of(REPORTED_LOSS) for c in white_floor_curves()}
    assert scales["linear", 1000] == pytest.approx(1.46, abs=0.01)
    assert scales["scaled_linear", 1000] == pytest.approx(0.87, abs=0.01)
    assert scales["cosine", 1000] == pytest.approx(0.53, abs=0.01)


def test_the_report_stands_on_shipped_runs():
    stages = read_stages()
    assert [stage.name for stage in stages] == list(STAGES)
    assert all("train/ldm.py" in stage.command and len(stage.images) == 10 for stage in stages)
    reported = stages[0].reading
    assert reported.validation_last_tenth == pytest.approx(reported.mean_floors["white"], rel=0.1)
    assert all(stage.reading.gap_closed > 0 for stage in stages[1:])
