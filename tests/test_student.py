"""Students: a step lands where several steps of the teacher do, and what is trained is a checkpoint like any other."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import gradio as gr
import pytest
import torch
from conftest import uneven_statistics
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler, UNet2DModel
from folder_edits import one_nan, weights
from helpers import same_weights

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.denoiser import StandIn
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.diagnosis.statistics import write_statistics
from ldm_explorer.evaluation.config import EvaluationConfig, few_evaluations
from ldm_explorer.explore.checkpoint_words import in_a_line
from ldm_explorer.explore.diagnosis import diagnose_folder
from ldm_explorer.explore.faults import set_up
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.training_run import read_run
from ldm_explorer.explore.training_words import describe, in_words, why_not_comparable
from ldm_explorer.files import CheckpointError
from ldm_explorer.latents import LatentCodec, encode_posterior
from ldm_explorer.prediction import target, to_z0
from ldm_explorer.run_layout import STATISTICS_FILE
from ldm_explorer.sampler_steps import DEFAULT_STEPS, SamplerSteps
from ldm_explorer.samplers import denoise, draw_noise, final_latents, make_sampler
from ldm_explorer.training import train
from ldm_explorer.training.export_state import export_state
from ldm_explorer.training.tasks.student import StudentTask, StudentTraining
from ldm_explorer.training.tasks.student_config import DistillConfig, load_teacher
from ldm_explorer.ui.controls import CONTROLS, described
from ldm_explorer.ui.rooms import denoising
from ldm_explorer.ui.rooms import training as training_room
from ldm_explorer.ui.rooms.denoising import DenoisingSettings
from ldm_explorer.ui.rooms.training import TrainingSettings
from ldm_explorer.ui.students import student_links

SHORT = {"max_steps": 4, "batch_size": 4, "threads": 1, "precision": "fp32", "teacher_evaluations": 2}
TOLD = {"dataset": "fashion_mnist", "prediction": "v_prediction", "schedule": "cosine", "class_labels": True}


@pytest.fixture(scope="module")
def teacher(ldm_folder, tmp_path_factory) -> Path:
    folder = shutil.copytree(ldm_folder, tmp_path_factory.mktemp("teacher") / "fashion_mnist" / "tiny-ldm")
    (folder / "train_config.json").write_text(json.dumps(TOLD))
    write_statistics(folder, uneven_statistics())
    return folder


@pytest.fixture
def student_of(teacher, shapes, other_shapes, monkeypatch):
    """The training of a student, on a few shapes."""
    images = {"train": shapes, "validation": other_shapes}
    monkeypatch.setattr(DistillConfig, "load", lambda _, split: images[split])

    def of(evaluations: int, **options) -> StudentTraining:
        return StudentTraining(DistillConfig(evaluations=evaluations, **{"teacher": teacher} | SHORT | options))

    return of


@pytest.fixture(scope="module")
def student(teacher, shapes, other_shapes, tmp_path_factory) -> Path:
    """The run folder of a student of two evaluations. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        images = {"train": shapes, "validation": other_shapes}
        patch.setattr(DistillConfig, "load", lambda _, split: images[split])
        out = tmp_path_factory.mktemp("student") / "tiny-student"
        list(train(StudentTraining(DistillConfig(teacher=teacher, evaluations=2, out=out, **SHORT))))
    return out


def test_a_student_of_a_transformer_is_one(transformer_folder, student_of, tmp_path):
    folder = shutil.copytree(transformer_folder, tmp_path / "fashion_mnist" / "a-transformer")
    out = tmp_path / "its-student"
    list(train(student_of(2, teacher=folder, out=out)))
    trained, own = (read_checkpoint(path).pipeline.transformer.state_dict() for path in (out, folder))
    assert not same_weights(trained, own)
    stock = DiffusionPipeline.from_pretrained(out, custom_pipeline=str(out), trust_remote_code=True)
    assert same_weights(stock.transformer.state_dict(), trained)
    assert read_checkpoint(out).sampling == SamplerSteps("ddim", 2)


def make_task(teacher: Checkpoint, images, walk: SamplerSteps, evaluations: int) -> StudentTask:
    posterior = encode_posterior(LatentCodec(teacher.vae), images.images)
    config = DistillConfig(teacher=teacher.folder, evaluations=evaluations, **SHORT)
    return StudentTask(config, teacher, walk, posterior, images.labels, posterior, images.labels)


@pytest.mark.parametrize("evaluations", [1, 2, 4])
def test_what_is_wanted_leads_by_one_step_of_ddim_to_where_the_teacher_goes_in_several(teacher, shapes, evaluations):
    read = read_checkpoint(teacher)
    walk = SamplerSteps("unipc", 3 * evaluations)
    task = make_task(read, shapes, walk, evaluations)
    batch = task.batch(torch.arange(8), torch.Generator().manual_seed(0))
    z_t = task._noisy(batch)
    wanted, landed = task._wanted(batch, z_t), task._walked(batch, z_t)
    for index, step in enumerate(batch["step"].tolist()):
        sampler = make_sampler("ddim", read.pipeline.scheduler)
        sampler.set_timesteps(evaluations)
        sampler.set_begin_index(step)
        reached = sampler.step(wanted[index], sampler.timesteps[step], z_t[index], return_dict=False)[0]
        assert torch.allclose(reached, landed[index], atol=1e-4)


class Gaussian(StandIn):
    """Knows that all latents are of one normal distribution."""

    STD = 0.5

    def forward(self, z_t, timestep, class_labels=None):  # noqa: ARG002
        alpha_bar = self.schedule.alpha_bars[timestep]
        z0 = alpha_bar.sqrt() * self.STD**2 / (alpha_bar * self.STD**2 + 1 - alpha_bar) * z_t
        eps = (z_t - alpha_bar.sqrt() * z0) / (1 - alpha_bar).sqrt()
        return target(self.prediction_type, z0, eps, alpha_bar)


def test_the_student_of_one_evaluation_of_a_gaussian_is_to_scale_the_noise_by_its_std(teacher, shapes):
    """Where the probability flow ends is known: std * z_T (Song et al. 2021, for one normal distribution)."""
    task = make_task(read_checkpoint(teacher), shapes, SamplerSteps("dpm++", 50), evaluations=1)
    task.denoiser = Gaussian(task.denoiser)
    batch = task.batch(torch.arange(8), torch.Generator().manual_seed(0))
    z_t = task._noisy(batch)
    z0 = to_z0("v_prediction", task._wanted(batch, z_t), z_t, task.alpha_bars[0])
    assert torch.allclose(z0, Gaussian.STD * z_t, atol=0.02)


def test_a_student_begins_as_its_teacher_and_learns_each_step_at_its_own_timestep(teacher, shapes):
    task = make_task(read_checkpoint(teacher), shapes, SamplerSteps("unipc", 8), evaluations=4)
    assert task.timesteps.tolist() == [999, 749, 499, 249]
    with torch.no_grad():
        found = task.validate(task.model.eval())
    assert found["loss"] == pytest.approx(found["teacher_loss"], rel=1e-5)
    assert found["loss"] > 0
    batch = task.batch(torch.arange(8), torch.Generator().manual_seed(0))
    assert batch["step"].tolist() == [0, 1, 2, 3] * 2
    task.loss(task.model, batch)["loss"].backward()
    assert all(parameter.grad is None for parameter in task.teacher.pipeline.unet.parameters())


def test_a_student_is_a_checkpoint_that_samples_with_its_own_evaluations(student, teacher):
    checkpoint = read_checkpoint(student)
    assert checkpoint.sampling == SamplerSteps("ddim", 2)
    assert read_checkpoint(teacher).sampling == DEFAULT_STEPS
    assert checkpoint.teacher == "tiny-ldm"
    config = checkpoint.config
    assert (config["evaluations"], config["method"]) == (2, "progressive distillation")
    assert {name: config[name] for name in TOLD} == TOLD
    assert checkpoint.vae.config.latents_std == read_checkpoint(teacher).vae.config.latents_std
    assert (student / STATISTICS_FILE).read_bytes() == (teacher / STATISTICS_FILE).read_bytes()
    assert "student of tiny-ldm, 2 evaluations" in in_a_line(checkpoint)
    card = (student / "README.md").read_text()
    assert "with 2 evaluations of DDIM it goes where its teacher goes with 4 of unipc" in card
    assert "The teacher itself, taking as few steps, has" in card
    assert checkpoint.metrics["training"]["teacher"]["num_inference_steps"] == 4
    with pytest.raises(ValueError, match="is a student: its loss is its distance to the steps of tiny-ldm"):
        read_loss(checkpoint)


def test_stock_diffusers_reproduces_its_image_and_the_folders_own_pipeline_needs_no_options(student):
    checkpoint, label = read_checkpoint(student), 3
    ours = final_latents(checkpoint.pipeline.denoise([label], [0]))
    unet = UNet2DModel.from_pretrained(student, subfolder="unet")
    trained = DDPMScheduler.from_pretrained(student, subfolder="scheduler")
    scheduler = DPMSolverMultistepScheduler.from_config(trained.config, solver_order=1)
    scheduler.set_timesteps(2)
    z = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))[None]
    with torch.no_grad():
        for t in scheduler.timesteps:
            z = scheduler.step(unet(z, t, torch.tensor([label])).sample, t, z).prev_sample
        vae = AutoencoderKL.from_pretrained(student, subfolder="vae")
    assert torch.equal(z, ours)
    alone = DiffusionPipeline.from_pretrained(student, custom_pipeline=str(student), trust_remote_code=True)
    alone.set_progress_bar_config(disable=True)
    image = alone([label], generator=[torch.Generator().manual_seed(0)], output_type="pt").images
    wanted = (checkpoint.codec.decode(ours) / 2 + 0.5).clamp(0, 1)
    assert torch.equal(image, wanted)
    assert torch.equal(checkpoint.pipeline([label], [0], output_type="pt").images, wanted)
    assert vae.config.latents_std == checkpoint.vae.config.latents_std


def test_a_student_of_a_student_takes_its_steps(student, student_of, teacher):
    training = student_of(1, teacher=student)
    assert training.name == "tiny-student-student-1"
    assert training.config.walk_of(training.teacher) == SamplerSteps("ddim", 2)
    assert student_of(1).config.walk_of(read_checkpoint(teacher)) == SamplerSteps("unipc", 2)
    first = draw_noise((4, 8, 8), [0, 1])[0]
    task = make_task(training.teacher, training.config.load("train"), SamplerSteps("ddim", 2), evaluations=1)
    batch = {"step": torch.zeros(2, dtype=torch.long), "labels": torch.tensor([1, 2])}
    pipeline = training.teacher.pipeline
    whole = denoise(pipeline.denoiser, make_sampler("ddim", pipeline.scheduler), first, batch["labels"], num_steps=2)
    assert torch.equal(task._walked(batch, first), final_latents(whole))


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_resumed_student_equals_an_uninterrupted_one(student_of, student, tmp_path):
    run = tmp_path / "run"
    steps = train(student_of(2, out=run))
    next(steps)
    next(steps)
    steps.close()
    options = json.loads((run / "train_config.json").read_text())
    del options["schedule"]  # as of a run from before a teacher kept it
    (run / "train_config.json").write_text(json.dumps(options))
    list(train(student_of(2, out=run, resume=True)))
    resumed, whole = (read_checkpoint(folder).pipeline.unet.state_dict() for folder in (run, student))
    assert same_weights(resumed, whole)
    with pytest.raises(ValueError, match=r"was started with evaluations = 2, not 1"):
        next(train(student_of(1, out=run, resume=True)))
    with pytest.raises(ValueError, match="is a student's run"):
        export_state(run, tmp_path / "export")


def test_what_no_student_can_be_made_of_is_refused_in_a_sentence(student, teacher, vae_folder, tmp_path):
    def refused(match: str, error=ValueError, **options) -> None:
        with pytest.raises(error, match=match):
            load_teacher(DistillConfig(**{"teacher": teacher} | options))

    refused("is an autoencoder alone: give the run folder of a denoiser", teacher=vae_folder)
    refused("is a student of 2 evaluations, and --evaluations is 4: give a --teacher of two, three", teacher=student)
    refused("is a student of 2 evaluations, and --evaluations is 2", teacher=student, evaluations=2)
    refused("was trained on other images: give --dataset fashion_mnist", dataset="cifar10")
    too_many = "has 1000 timesteps, and would take 1004 steps: give fewer --evaluations or --teacher-evaluations"
    refused(too_many, teacher_evaluations=251)
    refused(
        "of 16 evaluations one begins at timestep 937, and of the teacher's 48 at 936, by rounding: give another",
        evaluations=16,
        teacher_evaluations=3,
    )
    refused("is no folder", CheckpointError, teacher=tmp_path / "nothing")
    broken = shutil.copytree(teacher, tmp_path / "broken")
    weights("unet", "mid_block.resnets.1.conv2.weight", one_nan)(broken)
    refused("has weights that are not finite", teacher=broken)
    for option, value in (("evaluations", 0), ("teacher_evaluations", 1), ("label_dropout", 1.0)):
        with pytest.raises(ValueError, match=f"--{option.replace('_', '-')} is {value}"):
            DistillConfig(**{option: value})


def test_a_student_is_measured_as_it_samples(student, teacher):
    ours, theirs = read_checkpoint(student), read_checkpoint(teacher)
    plain = EvaluationConfig()
    assert plain.section(ours.sampling) == plain.section(theirs.sampling) == "evaluation"
    assert EvaluationConfig(sampler="unipc", steps=10).section(theirs.sampling) == "evaluation"
    assert EvaluationConfig(steps=10).section(ours.sampling) == "evaluation_ddim_10"
    assert few_evaluations(ours) == (("ddim",), (2,))
    assert len(few_evaluations(theirs)[1]) > 1


def test_a_fault_is_put_into_its_teacher_and_not_into_a_student(student):
    few_steps = "is a student, which knows its own few steps alone: choose a network that was not distilled, or an"
    with pytest.raises(ValueError, match=few_steps):
        set_up(read_checkpoint(student), "clip_sample")
    assert set_up(read_checkpoint(student), "clip_sample", "Gaussian").total == 25


def test_an_index_that_names_no_sampler_or_no_number_is_refused(student, tmp_path):
    for told, match in (
        ({"sampler": "nonsense"}, "sampler is 'nonsense', should be one of dpm"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
    ):
        folder = shutil.copytree(student, tmp_path / str(*told.values()))
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | told))
        with pytest.raises(CheckpointError, match=match):
            read_checkpoint(folder)


def test_a_healthy_student_is_not_accused_of_being_no_denoiser(student):
    verdicts = {verdict.name: verdict for verdict in diagnose_folder(student).verdicts}
    for name in ("prediction_type", "schedule_by_behaviour", "learned", "labels_match"):
        assert verdicts[name].evidence == "a student answers on its own few steps alone, and not as a denoiser does"
    assert " in 2 steps have a standard deviation of " in verdicts["samples"].evidence


@pytest.fixture(scope="module")
def library(student, teacher, tmp_path_factory) -> Library:
    """Both, as the app finds them."""
    root = tmp_path_factory.mktemp("both") / "fashion_mnist"
    for folder in (student, teacher):
        shutil.copytree(folder, root / folder.name)
    return open_library(root)


def test_the_page_puts_teacher_and_student_side_by_side_each_by_its_own_steps(library):
    links = {name: student_links(library, name, {"class_name": "Bag", "seed": 3}) for name in library.names()}
    assert links["tiny-ldm"] == links["tiny-student"]
    (href,) = re.findall(r'href="\?([^"]*)"', links["tiny-ldm"])
    chosen, beside = DenoisingSettings.read(unescape(href))
    assert (chosen.checkpoint, chosen.sampler, chosen.steps, chosen.seed) == ("tiny-ldm", "unipc", 10, 3)
    assert (beside.checkpoint, beside.sampler, beside.steps, beside.seed) == ("tiny-student", "ddim", 2, 3)
    *_, (whole, below) = denoising.answer(library, chosen, beside)
    assert [side["title"] for side in whole["sides"]][:2] == [
        "A · tiny-ldm: unipc, 10 steps",
        "B · tiny-student: ddim, 2 steps",
    ]
    assert "tiny-ldm and its students on this seed" in below


def test_who_chooses_a_student_is_given_its_sampler_and_its_steps(library):
    alone = DenoisingSettings(checkpoint="tiny-student", class_name="Bag")
    *_, (whole, _) = denoising.answer(library, alone, None)
    assert [side["title"] for side in whole["sides"]] == ["tiny-student: ddim, 2 steps"]
    with gr.Blocks():
        controls = {name: CONTROLS[name].make(library) for name in ("sampler", "steps", "seed")}
    known = {name: described(name, control, library) for name, control in controls.items()}
    assert (known["sampler"]["own"], known["steps"]["own"]) == ({"tiny-student": "ddim"}, {"tiny-student": 2})
    assert "own" not in known["seed"]


def test_the_room_training_says_what_its_loss_is_and_what_stands_beside_it(library):
    one = read_run(library, "tiny-student")
    assert (one.floors, one.reading) == ({}, None)
    said = describe(one)
    assert "The teacher itself, taking as few steps, has" in said
    assert in_words(one.run) == "tiny-student: student of tiny-ldm, 2 evaluations"
    assert "a student and no student" in why_not_comparable(one, read_run(library, "tiny-ldm"))
    *_, (whole, *_) = training_room.answer(library, TrainingSettings(run="tiny-student"), None)
    assert said in whole["sentence"]
    facts = [fact for side in whole["frames"][-1]["facts"] for fact in side]
    assert "its teacher in as few steps" in [name for name, _ in facts]
