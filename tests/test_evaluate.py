"""What train/evaluate.py does around the measures: folders of samples, refusals, stopping and going on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import load_script
from diffusers import UNet2DModel
from foreign_models import save_pixels, small_unet
from helpers import draw_shapes
from torch.distributed import init_process_group, is_initialized
from torchvision.io import write_png

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.data import crop, dataset_spec, to_model
from ldm_explorer.evaluation import evaluator
from ldm_explorer.evaluation.classifier import knows_classes
from ldm_explorer.evaluation.config import EvaluationConfig
from ldm_explorer.evaluation.evaluator import Evaluation
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.evaluation.generation import generate
from ldm_explorer.evaluation.images import evaluate_images
from ldm_explorer.evaluation.reference import Reference
from ldm_explorer.evaluation.results_table import tables
from ldm_explorer.evaluation.subjects import SampleFolder, is_samples, labels_of, read_subjects
from ldm_explorer.files import CheckpointError
from ldm_explorer.image_folder import DataError, read_samples
from ldm_explorer.run_files import update_metrics, write_spec
from ldm_explorer.samplers import DEFAULT_SAMPLER, SAMPLERS
from ldm_explorer.shipped import shipped_checkpoints
from ldm_explorer.training.command_line import main_of

SPEC = dataset_spec("fashion_mnist")
evaluate = load_script("evaluate")


@pytest.fixture
def reference(shapes):
    torch.manual_seed(0)
    network = FeatureNet(1, 10, widths=(8, 16)).eval()
    return Reference(SPEC, network, shapes, draw_shapes(100, seed=1), draw_shapes(120, seed=2), num_images=50)


@pytest.fixture
def folder(shapes, tmp_path):
    """120 training images as PNG, in a subfolder per class."""
    images, labels = crop(shapes.images, SPEC)[:120], shapes.labels[:120]
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = tmp_path / "samples" / SPEC.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        write_png(image, str(place / f"{index}.png"))
    return tmp_path / "samples"


def test_a_folder_of_pictures_gives_the_figures_of_its_images(reference, folder, shapes, monkeypatch):
    evaluation = Evaluation(EvaluationConfig())
    monkeypatch.setattr(evaluation, "reference", lambda *_: reference)
    figures = evaluation.measure_samples(SampleFolder.read(folder, "fashion_mnist", None))["generation"]
    order = sorted(range(120), key=lambda i: (SPEC.class_names[shapes.labels[i]], f"{i}.png"))
    images, labels = crop(shapes.images, SPEC)[order], shapes.labels[order]
    expected = reference.samples(images, labels, reference.distances_to_known(reference.images))
    for name, value in expected.items():
        assert figures[name] == (value and pytest.approx(value, rel=1e-4)), name
    assert figures["num_images"] == 120
    assert figures["copying_ratio"] == 0, "they are training images"
    assert figures["copying_near_share"] == 1


def test_images_are_measured_from_python_as_a_tensor_and_as_a_folder(reference, folder, monkeypatch):
    monkeypatch.setattr(Evaluation, "_reference", lambda *_: reference)
    samples = SampleFolder.read(folder, "fashion_mnist", None)
    measures = evaluate_images(samples.images, "fashion_mnist", samples.labels)
    assert (
        measures
        == evaluate_images(str(folder))
        == Evaluation(EvaluationConfig()).measure_samples(samples)["generation"]
    )
    assert measures["num_images"] == 120
    assert evaluate_images(samples.images)["class_consistency"] is None


def test_a_line_says_how_many_samples_there_are_and_what_is_left_out(reference, folder, monkeypatch):
    monkeypatch.setattr(Evaluation, "_reference", lambda *_: reference)
    (folder / "Bag" / "notes.txt").write_text("")
    said = []
    samples = SampleFolder.read(folder, "fashion_mnist", None)
    Evaluation(EvaluationConfig(), say=said.append).measure_samples(samples)
    assert said == [f"{folder}: 120 images, 10 subfolders, 1 left out (1 .txt)"]


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (
            torch.zeros(9, 1, 28, 28),
            None,
            r"the images are float32 of shape \(9, 1, 28, 28\): give a tensor \(N, 1, 28, 28\)",
        ),
        (
            torch.zeros(9, 1, 32, 32, dtype=torch.uint8),
            None,
            r"uint8 of shape \(9, 1, 32, 32\): give a tensor \(N, 1, 28, 28\)",
        ),
        (
            torch.zeros(9, 1, 28, 28, dtype=torch.uint8),
            torch.zeros(8),
            r"labels .* for 9 images: give a tensor of whole numbers, one for each",
        ),
        (torch.zeros(9, 1, 28, 28, dtype=torch.uint8), torch.arange(9) + 3, r"labels \[10, 11\]: the dataset has 10"),
    ],
)
def test_images_that_do_not_fit_the_dataset_are_refused_before_any_work(images, labels, said, monkeypatch):
    monkeypatch.setattr(Evaluation, "_reference", None)
    with pytest.raises(ValueError, match=said):
        evaluate_images(images, "fashion_mnist", labels)


def test_class_consistency_is_the_share_that_the_classifier_gives_the_label_asked_for(reference, shapes):
    images = crop(shapes.images, SPEC)[:120]
    with torch.no_grad():
        labels = reference.network(to_model(images)).argmax(1)
    labels[::4] = (labels[::4] + 1) % 10
    assert reference.samples(images, labels, torch.ones(120))["class_consistency"] == 0.75


def test_a_test_split_too_small_for_distances_is_refused(shapes, other_shapes):
    with pytest.raises(ValueError, match="50 test images: distances in 64 features need more"):
        Reference(SPEC, FeatureNet(1, 10, widths=(8, 16)), shapes, other_shapes, other_shapes, num_images=50)


def test_folders_of_pictures_are_told_from_runs_and_from_folders_of_runs(folder, ldm_folder, vae_folder, tmp_path):
    assert is_samples(folder)
    assert is_samples(folder / "Bag")
    others = (ldm_folder, ldm_folder.parent, ldm_folder.parents[1], vae_folder, vae_folder.parent, tmp_path / "nothing")
    assert not any(is_samples(place) for place in others)


def test_labels_are_subfolders_and_none_are_guessed():
    folder = Path("samples")
    assert labels_of(folder, ["Bag", "Coat", "Bag"], SPEC).tolist() == [8, 4, 8]
    assert labels_of(folder, ["", ""], SPEC) is None
    assert labels_of(folder, ["a", "b"], SPEC) is None
    with pytest.raises(ValueError, match=r"samples of classes and others \(Handbag, no subfolder\)"):
        labels_of(folder, ["Bag", "Handbag", ""], SPEC)


def test_what_cannot_be_measured_is_refused_before_any_work(folder, vae_folder, ldm_folder, flow_folder, tmp_path):
    def refused(match: str, *folders, **options):
        with pytest.raises(ValueError, match=match):
            read_subjects(folders, EvaluationConfig(**options))

    refused("has no denoiser: leave it out", ldm_folder, vae_folder, few_evaluations=True)
    refused("has no denoiser: leave it out", folder, few_evaluations=True)
    refused("does not walk along a flow", flow_folder, sampler="ddim")
    refused("does not walk along a flow", flow_folder, sampler="ddim", few_evaluations=True)
    refused("heun takes an odd number of evaluations: give --steps 11", flow_folder, sampler="heun")
    refused("is no folder", tmp_path / "nothing")
    (tmp_path / "classifier" / "features").mkdir(parents=True)
    (tmp_path / "classifier" / "features" / "config.json").touch()
    (tmp_path / "seeds.json").touch()
    left_out = tmp_path / "classifier", tmp_path / "seeds.json"
    refused("no checkpoint among these folders", *left_out)
    short = shutil.copytree(ldm_folder, tmp_path / "short")
    config = short / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_train_timesteps": 15}))
    refused("has 15 timesteps: 16 evaluations are too many", short, steps=16)
    names = read_subjects((ldm_folder, folder, *left_out, vae_folder, ldm_folder), EvaluationConfig())
    assert list(names) == ["tiny-ldm", "samples", "tiny-vae", "tiny-ldm (2)"]


def test_figures_by_other_samplers_or_steps_are_kept_apart():
    def section(**options) -> str:
        return EvaluationConfig(**options).section()

    names = [
        section(),
        section(quick=True),
        section(steps=100),
        section(sampler="ddim", quick=True),
        section(few_evaluations=True),
    ]
    assert len(set(names)) == 5
    assert names[:2] == ["evaluation", "evaluation_quick"]
    with pytest.raises(ValueError, match="leave out --steps"):
        section(few_evaluations=True, steps=100)


def test_figures_by_another_classifier_are_kept_apart_where_there_is_one_of_the_dataset(vae_folder, tmp_path):
    """Where there is none, the app shows those by the one that was given."""
    shipped = shipped_checkpoints() / "fashion_mnist" / "features"
    checkpoint = read_checkpoint(vae_folder)
    others = replace(checkpoint, dataset="pictures")

    def section(features: Path | None, of: Checkpoint) -> str:
        return Evaluation(EvaluationConfig(features=features)).section(of)

    def by_a_copy(weights: bytes) -> Path:
        copy = shutil.copytree(shipped, tmp_path / weights.decode() / "features")
        (copy / "features" / "diffusion_pytorch_model.safetensors").write_bytes(weights)
        return copy

    assert section(None, checkpoint) == section(shipped, checkpoint) == "evaluation"
    assert section(shutil.copytree(shipped, tmp_path / "features"), checkpoint) == "evaluation", "the same network"
    mine, theirs = (by_a_copy(weights) for weights in (b"mine", b"theirs"))
    sections = {section(folder, checkpoint) for folder in (mine, theirs)}
    assert len(sections) == 2
    assert all(name.startswith("evaluation_by_features_") for name in sections)
    assert section(mine, others) == "evaluation"


def test_a_classifier_judges_the_classes_that_it_was_trained_on_alone(tmp_path):
    shipped = shipped_checkpoints() / "fashion_mnist" / "features"
    assert knows_classes(shipped, SPEC)
    assert not knows_classes(shipped, dataset_spec("mnist")), "as many, but others"
    assert not knows_classes(tmp_path, SPEC), "nobody knows which"
    write_spec(tmp_path, SPEC)
    assert knows_classes(tmp_path, SPEC)


def test_figures_that_are_stored_nowhere_are_printed_when_a_later_one_is_stopped(
    folder, vae_folder, reference, monkeypatch, capsys
):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluation, "_reference", lambda *_: reference)
    monkeypatch.setattr(Evaluation, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate.main(evaluate.EvaluateConfig(checkpoints=(folder, vae_folder), threads=1))
    assert "| samples |" in capsys.readouterr().out


def test_a_classifier_or_a_compiler_that_is_not_there_is_refused_before_any_work(vae_folder, tmp_path, monkeypatch):
    def refused(match: str, **options) -> None:
        with pytest.raises(ValueError, match=match):
            evaluate.main(evaluate.EvaluateConfig(checkpoints=(vae_folder,), threads=1, **options))

    def no_compiler(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(Evaluation, "measure", lambda *_: pytest.fail("it was measured"))
    refused("nothing", features=tmp_path / "nothing")
    monkeypatch.setattr(torch, "compile", lambda _: no_compiler)
    refused("leave out --compile: no compiler", compile=True)


def test_a_denoiser_is_measured_once_and_taken_up_where_it_stopped(reference, ldm_folder, tmp_path, monkeypatch):
    """With every seed's samples, and few evaluations, after a stop in the middle of the seeds."""
    shutil.copytree(ldm_folder, tmp_path / "fashion_mnist" / "run")
    folder, sampled = tmp_path / "fashion_mnist" / "run", []
    (folder / "train_log.jsonl").unlink()  # as one that another program trained

    def measure(**options):
        evaluation = Evaluation(EvaluationConfig(resume=True, **options))
        monkeypatch.setattr(evaluation, "reference", lambda *_: reference)
        monkeypatch.setattr(EvaluationConfig, "num_images", property(lambda self: 100))
        return evaluation.measure(read_checkpoint(folder))

    def stops(*arguments, seed_to_stop_at=1, **options):
        sampled.append(arguments[3])
        if arguments[3] == seed_to_stop_at and sampled.count(1) == 1:
            raise KeyboardInterrupt
        return generate(*arguments, **options)

    monkeypatch.setattr(evaluator, "generate", stops)
    with pytest.raises(KeyboardInterrupt):
        measure(steps=1)
    figures = measure(steps=1)
    assert sampled == [0, 1, 1, 2]
    assert read_checkpoint(folder).metrics[f"evaluation_{DEFAULT_SAMPLER}_1"] == figures
    assert figures["generation"]["num_images"] == figures["generation"]["num_real_images"] == 100
    assert measure(steps=1) == figures
    assert sampled == [0, 1, 1, 2], "nothing is measured twice"
    compiled = []
    monkeypatch.setattr(UNet2DModel, "compile", lambda unet: compiled.append(unet))
    assert measure(steps=1, compile=True)["generation"] == figures["generation"]
    assert len(compiled) == 1
    monkeypatch.setattr("ldm_explorer.evaluation.config.FEW_EVALUATIONS", (1, 2))
    curves = measure(few_evaluations=True)["fd_percent"]
    assert set(curves) == set(SAMPLERS)
    assert all(len(curve) == 2 for curve in curves.values())
    assert measure(few_evaluations=True, sampler="ddim")["fd_percent"] == {"ddim": curves["ddim"]}


def test_a_model_of_pixels_that_another_program_saved_is_measured_and_nothing_is_written_there(
    reference, tmp_path, monkeypatch
):
    """Against the dataset that is asked for, as nothing else says what it was trained on."""
    folder = save_pixels(tmp_path / "theirs", small_unet(in_channels=1, out_channels=1, sample_size=32))
    config = EvaluationConfig(steps=1, quick=True)
    with pytest.raises(CheckpointError, match="cifar10 of 3 and 32 with 10 classes: it was trained on something else"):
        read_subjects([folder], EvaluationConfig(dataset="cifar10"))
    (subject,) = read_subjects([folder], config).values()
    evaluation = Evaluation(config)
    monkeypatch.setattr(evaluation, "reference", lambda *_: reference)
    monkeypatch.setattr(EvaluationConfig, "num_images", property(lambda self: 60))
    before = sorted(folder.rglob("*"))
    figures = evaluation.measure(subject)
    assert figures.keys() & {"reconstruction", "latent_space", "continuity"} == set()
    assert figures["generation"]["fd_percent"] > figures["generation"]["fd_floor_percent"]
    assert figures["cost"]["decode_gflops"] == 0
    assert "| theirs |" in "".join(tables({"theirs": figures}))
    assert sorted(folder.rglob("*")) == before


def test_a_denoiser_that_gives_no_numbers_is_not_measured_in_black_images(ldm_folder):
    pipeline = read_checkpoint(ldm_folder).pipeline
    with torch.no_grad():
        pipeline.unet.conv_out.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="ddim with 2 evaluations gives latents that are not finite"):
        generate(pipeline, SPEC, 4, 0, num_steps=2, sampler="ddim")


def test_what_is_stored_but_is_no_evaluation_is_measured_anew(vae_folder, reference, tmp_path, monkeypatch):
    folder = shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / "run")
    update_metrics(folder, "evaluation", None)
    evaluation = Evaluation(EvaluationConfig(resume=True))
    monkeypatch.setattr(evaluation, "reference", lambda *_: reference)
    assert evaluation.measure(read_checkpoint(folder))["reconstruction"]["num_images"] == 50


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["evaluate.py", "folder"])
    with pytest.raises(SystemExit, match="130"):
        main_of(evaluate.EvaluateConfig, interrupted)
    assert "with --resume goes on" in capsys.readouterr().err


def test_a_command_leaves_its_process_group(monkeypatch, tmp_path):
    """One that is not left may abort where the interpreter ends, and the launcher calls the command failed."""

    def join(_):
        init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)

    monkeypatch.setattr("sys.argv", ["evaluate.py", "folder"])
    main_of(evaluate.EvaluateConfig, join)
    assert not is_initialized()


def test_a_picture_of_another_size_or_none_is_refused(folder, ldm_folder):
    write_png(torch.zeros(1, 32, 32, dtype=torch.uint8), str(folder / "Bag" / "large.png"))
    with pytest.raises(DataError, match=r"large.png has 32x32 pixels"):  # before anything else is measured
        read_subjects((ldm_folder, folder), EvaluationConfig())
    with pytest.raises(DataError, match=r"large.png has 32x32 pixels: give samples of 28x28"):
        read_samples(folder, 28, 1)
    (folder / "Bag" / "large.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"large.png is no picture"):
        read_samples(folder, 28, 1)
