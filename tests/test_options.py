"""Options and arguments from Python: given their type, or refused in a sentence that names them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ldm_explorer.evaluation.config import EvaluationConfig
from ldm_explorer.options import as_path, whole_numbers
from ldm_explorer.training.command_line import described
from ldm_explorer.training.tasks.autoencoder import VAETrainConfig
from ldm_explorer.training.tasks.denoiser_config import LDMTrainConfig

CONFIGS = (VAETrainConfig, LDMTrainConfig, EvaluationConfig)
SHARED = {"dataset": 3, "image_side": 2.5, "data_dir": 7, "resume": "perhaps"}
TRAINING = {
    "max_steps": "ten",
    "batch_size": 2.5,
    "learning_rate": math.nan,
    "optimizer": "sgd",
    "precision": "fp8",
    "on_divergence": "explode",
    "widths": "32",
    "out": 3,
    "seed": "a",
    "tracker": 5,
}
OWN = {
    VAETrainConfig: {"latent_size": "small", "kl_weight": math.nan, "perceptual": 3},
    LDMTrainConfig: {"vae": 3, "prediction": "x", "timesteps": "odd", "class_labels": "perhaps", "min_snr_gamma": "x"},
    EvaluationConfig: {"sampler": "eulr", "steps": 2.5, "quick": "perhaps"},
}
WRONG = [
    (config_class, name, value)
    for config_class in CONFIGS
    for options in (SHARED, {} if config_class is EvaluationConfig else TRAINING, OWN[config_class])
    for name, value in options.items()
]


@pytest.mark.parametrize(("config_class", "name", "value"), WRONG)
def test_an_option_of_another_type_is_refused_by_name_with_what_it_should_be(config_class, name, value):
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is {value!r}: it should be"):
        config_class(**{name: value})


def test_text_and_lists_become_what_the_option_is():
    config = VAETrainConfig(out="runs/mine", data_dir="data", max_steps="10", widths=[16, 32], resume="no")
    assert (config.out, config.data_dir) == (Path("runs/mine"), Path("data"))
    assert (config.max_steps, config.widths, config.resume) == (10, (16, 32), False)
    assert replace(config, seed=1) == VAETrainConfig(
        out=Path("runs/mine"), data_dir=Path("data"), max_steps=10, widths=(16, 32), seed=1
    )
    assert LDMTrainConfig(vae="runs/mine").vae == Path("runs/mine")


@pytest.mark.parametrize("name", ["learning_rate", "max_epochs", "max_minutes", "weight_decay"])
def test_no_budget_or_rate_is_infinite(name):
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is infinite"):
        LDMTrainConfig(**{name: math.inf})


def test_gradients_may_be_clipped_nowhere():
    assert LDMTrainConfig(grad_clip_norm=math.inf).grad_clip_norm == math.inf


def test_a_seed_that_leaves_torchs_range_once_it_is_spread_over_steps_is_refused():
    with pytest.raises(ValueError, match=r"--seed is 10000000000: it has to be from"):
        LDMTrainConfig(seed=10**10)


def test_a_path_is_text_or_a_path():
    assert as_path("a/b", "a folder") == as_path(Path("a/b"), "a folder") == Path("a/b")
    with pytest.raises(TypeError, match="None is no path: give a folder"):
        as_path(None, "a folder")


def test_whole_numbers_are_pythons_numpys_or_a_tensors():
    assert whole_numbers([1, np.int64(2), torch.tensor(3)], "seeds") == [1, 2, 3]
    assert whole_numbers(torch.tensor([4, 5]), "seeds") == [4, 5]
    for given in ([0.5], ["1"], 3, None, [2**63], torch.tensor([0.5])):
        with pytest.raises(ValueError, match=r"seeds .*: give (a list of )?whole numbers"):
            whole_numbers(given, "seeds")


def test_help_says_nothing_of_what_is_raised_and_how_long_a_training_takes_without_a_budget():
    for config in (VAETrainConfig, LDMTrainConfig):
        said = described(config)
        assert "Raises" not in said
        assert said.endswith(f"Without a budget it trains for {config.DEFAULT_MINUTES:g} minutes.")
        assert config(dataset="fashion_mnist").max_minutes == config.DEFAULT_MINUTES
    assert "minutes" not in described(EvaluationConfig)
