"""What the package offers to a notebook: each name is there, documented and shown, and importing it costs nothing."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import REPO

import ldm_explorer
from ldm_explorer import (
    AutoencoderTraining,
    DenoiserTraining,
    LDMTrainConfig,
    VAETrainConfig,
    diagnose_folder,
    evaluate_images,
    load_split,
    loss_floors,
    read_checkpoint,
    read_loss,
    reconstruct,
    to_pil,
    train,
)
from ldm_explorer.data import dataset_spec
from ldm_explorer.explore import diagnosis as explore_diagnosis
from ldm_explorer.files import CheckpointError
from ldm_explorer.shipped import shipped_checkpoints

PAGE = (REPO / "docs" / "python.md").read_text()
LOADS = """
import sys
import ldm_explorer
print(*(name for name in sys.modules if name.partition(".")[0] in ("torch", "diffusers", "gradio", "plotly")))
print(*(name for name in sys.modules if name.startswith("ldm_explorer.")))
print(*sorted(set(ldm_explorer.__all__) - set(dir(ldm_explorer))))
"""


def imported_for_type_checkers() -> dict[str, str]:
    """Name to module, as the package's root imports them where nothing runs."""
    tree = ast.parse(Path(ldm_explorer.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


def headings() -> str:
    return "\n".join(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))


def imported_in_docs() -> set[str]:
    """What the blocks of the page import from the package's root."""
    tree = ast.parse("".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)))
    roots = (node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "ldm_explorer")
    return {alias.name for node in roots for alias in node.names}


def test_importing_the_package_imports_nothing_else():
    command = [sys.executable, "-c", LOADS]
    assert subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout == "\n\n\n"


@pytest.mark.parametrize("name", ldm_explorer.__all__)
def test_every_name_resolves_is_documented_and_is_shown(name):
    value = getattr(ldm_explorer, name)
    assert value.__name__ == name
    assert value.__module__ == imported_for_type_checkers()[name], "type checkers are told where it is"
    assert inspect.getdoc(value).endswith(".")
    assert not inspect.getdoc(value).startswith(f"{name}("), "a docstring, not what a dataclass makes for itself"
    assert f"`{name}`" in headings()
    assert name in imported_in_docs() | {"Checkpoint"}, "that is what read_checkpoint returns"


def test_type_checkers_see_the_names_that_there_are():
    assert sorted(imported_for_type_checkers()) == sorted(ldm_explorer.__all__)


def test_another_name_is_an_attribute_error_and_no_missing_module():
    with pytest.raises(AttributeError, match="module 'ldm_explorer' has no attribute 'nothing'"):
        _ = ldm_explorer.nothing


WITHOUT_DENOISER = "is an autoencoder alone: give one with a denoiser"
GREY = torch.zeros(2, 1, 32, 32)
BYTES = GREY.byte()
ONES = torch.ones(3)
BAD_CALLS = {
    "a path that is none": (lambda: read_checkpoint(None), "None is no path: give the folder of a checkpoint"),
    "no folder": (lambda: read_checkpoint("/nowhere"), "/nowhere is no folder: give that of a checkpoint"),
    "a model that is no path": (lambda: diagnose_folder(3), "3 is no path: give the folder of a model"),
    "a model's name of two lines": (lambda: diagnose_folder("a\nb"), r"a\\nb is no folder: give that of a model"),
    "a run's path for a run": (lambda: read_loss("runs/mine"), "'runs/mine' is no Checkpoint: give what"),
    "a split that is none": (lambda: load_split("mnist", "validate"), "unknown split 'validate': choose one of train"),
    "a dataset that is none": (lambda: load_split(None, "test"), "unknown dataset None: choose one of"),
    "a side in letters": (lambda: load_split("folder:.", "test", image_side="64"), "--image-side is '64': give"),
    "a data folder that is none": (lambda: load_split("mnist", "test", 3), "3 is no path: give the folder with"),
    "options for a training": (lambda: next(train(VAETrainConfig())), "is no training: give AutoencoderTraining"),
    "a class for a training": (lambda: next(train(AutoencoderTraining)), "is no training: give AutoencoderTraining"),
    "a denoiser's options": (
        lambda: AutoencoderTraining(LDMTrainConfig()),
        "is no VAETrainConfig: give VAETrainConfig",
    ),
    "an autoencoder's options": (lambda: DenoiserTraining(VAETrainConfig()), "is no LDMTrainConfig: give LDMTrain"),
    "bytes for pictures": (lambda: to_pil(BYTES), r"torch.uint8 of shape .* is no picture: give finite floats"),
    "one picture without a batch": (lambda: to_pil(GREY[0]), "is no picture: give finite floats"),
    "pictures of two channels": (lambda: to_pil(GREY.expand(-1, 2, -1, -1)), "is no picture: give finite floats"),
    "pictures of NaN": (lambda: to_pil(GREY * torch.nan), "is no picture: give finite floats"),
    "floors of a list": (lambda: loss_floors("epsilon", [0.5], ONES), r"alpha_bars is \[0.5\]: give a tensor of one"),
    "floors of no values": (
        lambda: loss_floors("epsilon", ONES / 2, ONES[:0]),
        r"eigenvalues is a tensor of shape \(0,",
    ),
    "floors of a matrix": (lambda: loss_floors("epsilon", ONES / 2, torch.eye(3)), r"shape \(3, 3\): give a tensor of"),
    "floors beyond a schedule": (
        lambda: loss_floors("epsilon", ONES * 2, ONES),
        "give those of a schedule, from 0 to 1",
    ),
    "floors of NaN": (
        lambda: loss_floors("epsilon", ONES / 2, ONES * torch.nan),
        "eigenvalues are .*: give finite ones",
    ),
    "floors of negatives": (lambda: loss_floors("epsilon", ONES / 2, -ONES), "eigenvalues are .*, none below 0"),
    "scales in a matrix": (
        lambda: loss_floors("epsilon", ONES / 2, ONES, torch.eye(2)),
        "channel_variances is a tensor",
    ),
    "images of floats": (
        lambda: evaluate_images(GREY[..., :28, :28]),
        r"float32 of shape .*: give a tensor \(N, 1, 28",
    ),
    "images of another side": (
        lambda: evaluate_images(BYTES),
        r"uint8 of shape .*: give a tensor \(N, 1, 28, 28\) uint8",
    ),
    "images of NumPy": (lambda: evaluate_images(BYTES.numpy()), "the images are of type ndarray: give a tensor"),
    "no images": (lambda: evaluate_images(BYTES[:0, :, :28, :28]), "there are no images: give a tensor"),
    "too few images": (lambda: evaluate_images(BYTES[..., :28, :28]), "images has 2 images: give more than 5"),
    "labels in a list": (
        lambda: evaluate_images(BYTES[..., :28, :28], labels=[0, 1]),
        r"labels \[0, 1\] for 2 images: give",
    ),
    "labels in floats": (
        lambda: evaluate_images(BYTES[..., :28, :28], labels=ONES[:2]),
        "for 2 images: give a tensor of",
    ),
    "labels for a folder": (
        lambda: evaluate_images("pictures", labels=ONES),
        "labels go with a tensor of images: give",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_wrong_argument_is_refused_in_one_sentence_that_says_what_to_give(name):
    call, said = BAD_CALLS[name]
    with pytest.raises((ValueError, TypeError), match=said) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_an_autoencoder_alone_has_no_denoiser_and_no_loss_to_read(vae_folder):
    checkpoint = read_checkpoint(str(vae_folder))
    for asked in (lambda: checkpoint.denoiser, lambda: checkpoint.schedule, lambda: read_loss(checkpoint)):
        with pytest.raises(CheckpointError, match=WITHOUT_DENOISER):
            asked()


def test_a_classifier_is_no_checkpoint():
    with pytest.raises(CheckpointError, match="features holds a classifier: give the folder of an autoencoder or a"):
        read_checkpoint("checkpoints/fashion_mnist/features")


def test_a_shipped_model_is_diagnosed_by_its_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(explore_diagnosis, "examine", lambda case: case.folder)
    assert diagnose_folder("checkpoints/fashion_mnist/vae-8x8x4") == shipped_checkpoints("fashion_mnist", "vae-8x8x4")


def test_images_are_reconstructed_only_as_load_split_gives_them(tiny_pipeline):
    codec, spec = tiny_pipeline.codec, dataset_spec("fashion_mnist")
    assert reconstruct(codec, BYTES, spec).shape == (2, 1, 28, 28)
    for images in (GREY, BYTES[..., :28, :28], BYTES[0], BYTES.expand(-1, 3, -1, -1), BYTES[:0], None):
        with pytest.raises(ValueError, match=r"images.*: give a tensor \(N, 1, 32, 32\) uint8"):
            reconstruct(codec, images, spec)
    with pytest.raises(TypeError, match="is no LatentCodec: give the codec of a checkpoint"):
        reconstruct(tiny_pipeline.vae, BYTES, spec)


SAMPLING = {
    "labels in letters": ({"class_labels": ["Bag"]}, r"class_labels \['Bag'\]: give a list of whole numbers"),
    "seeds that are fractions": ({"seeds": [0.5]}, r"seeds \[0.5\]: give a list of whole numbers"),
    "one seed": ({"seeds": 0}, "seeds 0: give a list of whole numbers"),
    "a fraction of a step": ({"num_inference_steps": 2.5}, "2.5 steps: give 1 to"),
    "guidance that is no number": ({"guidance_scale": float("nan")}, "guidance_scale is nan: give a finite number"),
    "guidance without labels": ({"class_labels": None, "guidance_scale": 2.0}, "guidance needs class labels"),
    "another output": ({"output_type": "latent"}, "output_type is 'latent': give 'pil', 'np' or 'pt'"),
    "seeds and generators": ({"generator": torch.Generator()}, "both seeds and a generator: give one of them"),
    "two generators for three": (
        {"seeds": None, "batch_size": 3, "generator": [torch.Generator()] * 2},
        r"\[3, 2\] labels and generators for 3 images: give one, or one for each image",
    ),
    "one seed for three": ({"batch_size": 3}, "1 seeds for 3 images: give one per image"),
    "two labels for three": (
        {"class_labels": [1, 2], "seeds": None, "batch_size": 3},
        "2 class labels for 3 images: give one, or one for each",
    ),
    "a tensor that no step has": (
        {"callback_on_step_end_tensor_inputs": ["prompt_embeds"]},
        "callback_on_step_end_tensor_inputs has {'prompt_embeds'}",
    ),
}


@pytest.mark.parametrize("name", SAMPLING)
def test_a_pipeline_refuses_what_it_cannot_sample_with(tiny_pipeline, name):
    options, said = SAMPLING[name]
    with pytest.raises(ValueError, match=said):
        tiny_pipeline(**{"class_labels": [1], "seeds": [0], "num_inference_steps": 2} | options)
