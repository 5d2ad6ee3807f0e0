"""The shipped checkpoints are whole, small, measured, and generate what they are asked for."""

import pytest
import torch

from ldm_explorer.checkpoints import discover, load_model
from ldm_explorer.data import crop, dataset_spec, to_uint8
from ldm_explorer.evaluation.features import FeatureNet, extract_features, predict_classes
from ldm_explorer.explore.library import SHIPPED_CHECKPOINTS

MAX_FILE_BYTES = 10_000_000
CHECKPOINTS = {checkpoint.name: checkpoint for checkpoint in discover(SHIPPED_CHECKPOINTS)[0]}
DENOISERS = [name for name, checkpoint in CHECKPOINTS.items() if checkpoint.kind == "ldm"]


def test_no_file_is_too_large_and_nothing_is_pickled():
    files = [path for path in SHIPPED_CHECKPOINTS.rglob("*") if path.is_file()]
    assert {path.name: path.stat().st_size for path in files if path.stat().st_size >= MAX_FILE_BYTES} == {}
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jsonl", ".md"}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_checkpoint_has_its_card_config_log_and_figures(name):
    checkpoint = CHECKPOINTS[name]
    assert (checkpoint.folder / "README.md").is_file()
    assert checkpoint.config["dataset"] == checkpoint.dataset
    assert checkpoint.log()
    assert checkpoint.metrics["training"]["images"] > 0
    assert checkpoint.metrics["evaluation"]["reconstruction"]["psnr_db"] > 30


@pytest.mark.parametrize("name", DENOISERS)
def test_the_validation_loss_stays_down_and_lies_below_the_gaussian_floor(name):
    loss = CHECKPOINTS[name].metrics["evaluation"]["loss"]
    assert loss["validation_last_tenth"] <= 1.02 * loss["validation_minimum"]
    assert loss["validation_last_tenth"] < loss["floors"]["gaussian"]


@pytest.mark.parametrize("name", DENOISERS)
def test_samples_are_mostly_of_the_class_that_was_asked_for(name):
    """Over 30 samples; the stored class consistency is over 30,000."""
    checkpoint = CHECKPOINTS[name]
    spec = dataset_spec(checkpoint.dataset)
    classifier = load_model(FeatureNet, checkpoint.folder.parent / "features", "features")
    labels = [index % spec.num_classes for index in range(30)]
    images = checkpoint.pipeline(labels, range(30), num_inference_steps=10, output_type="pt").images
    predicted = predict_classes(classifier, extract_features(classifier, crop(to_uint8(images), spec)))
    assert (predicted == torch.tensor(labels)).float().mean() > 0.6
