"""A step of several passes is the step of one batch as large."""

from dataclasses import replace

import pytest
import torch
from helpers import same_weights
from toy_training import CONFIG, Regression, progress, train

from ldm_explorer.latents import LatentCodec, encode_posterior
from ldm_explorer.training import fit
from ldm_explorer.training.tasks.autoencoder import AutoencoderTask, VAETrainConfig
from ldm_explorer.training.tasks.classifier import ClassifierTask, ClassifierTrainConfig
from ldm_explorer.training.tasks.denoiser import DenoiserTask
from ldm_explorer.training.tasks.denoiser_config import LDMTrainConfig

WHOLE = replace(CONFIG, batch_size=32, ema_halflife_images=400)
PASSES = replace(WHOLE, batch_size=8, gradient_accumulation_steps=4)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-6) for name in one)


def test_four_passes_are_the_step_of_a_batch_four_times_as_large(accelerator, tmp_path):
    """Weights, average, losses, gradient norms and learning rates; images are counted as that batch's."""
    tasks = Regression(), Regression()
    steps, weights, averaged = train(tasks[0], WHOLE, accelerator, tmp_path / "whole")
    in_passes, weights_in_passes, averaged_in_passes = train(tasks[1], PASSES, accelerator, tmp_path / "passes")
    assert close(weights, weights_in_passes)
    assert close(averaged, averaged_in_passes)
    assert [step.images for step in in_passes] == [32 * number for number in range(1, 21)]
    assert [task.batches for task in tasks] == [20, 20], "noise is drawn once a step, for all of its images"
    for step, other in zip(steps, in_passes, strict=True):
        names = step.record.keys() - {"cpu_seconds"}
        assert {name: other.record[name] for name in names} == pytest.approx(
            {name: step.record[name] for name in names}, rel=1e-3, abs=1e-6
        )
    assert not same_weights(weights, train(Regression(), CONFIG, accelerator, tmp_path / "smaller")[1])


@pytest.mark.parametrize("stop_after", [1, 7])
def test_a_resumed_run_of_several_passes_equals_an_uninterrupted_one_bit_for_bit(accelerator, tmp_path, stop_after):
    _, whole, whole_averaged = train(Regression(), PASSES, accelerator, tmp_path / "whole")
    train(Regression(), PASSES, accelerator, tmp_path / "parts", stop_after=stop_after)
    assert progress(tmp_path / "parts")["step"] == stop_after
    _, weights, averaged = train(Regression(), replace(PASSES, resume=True), accelerator, tmp_path / "parts")
    assert same_weights(weights, whole)
    assert same_weights(averaged, whole_averaged)


def test_an_epoch_is_one_whatever_the_passes(accelerator, tmp_path):
    config = replace(PASSES, max_steps=None, max_epochs=3.2)
    steps, _, _ = train(Regression(), config, accelerator, tmp_path)
    assert steps[-1].images == 320


@pytest.mark.parametrize("kind", ["autoencoder", "unet", "transformer", "classifier"])
def test_each_of_our_networks_takes_the_same_step(accelerator, tmp_path, tiny_vae, shapes, other_shapes, kind):
    common = {"max_steps": 1, "precision": "fp32", "threads": 1, "lr_warmup_steps": 0, "optimizer": "adamw"}

    def gradients(**batch) -> dict[str, torch.Tensor]:
        if kind == "autoencoder":
            task = AutoencoderTask(VAETrainConfig(widths=(16,), **common, **batch), shapes, other_shapes)
        elif kind == "classifier":
            config = ClassifierTrainConfig(widths=(8, 8), **common, **batch)
            task = ClassifierTask(config, shapes, other_shapes, other_shapes)
        else:
            posterior = encode_posterior(LatentCodec(tiny_vae), shapes.images)
            own = {"widths": (16, 32), "layers_per_block": 1} if kind == "unet" else {"width": 32, "depth": 2}
            config = LDMTrainConfig(network=kind, **own, **common, **batch)
            task = DenoiserTask(config, tiny_vae, posterior, shapes.labels, posterior, shapes.labels)
        kept = {}
        for name, parameter in task.model.named_parameters():
            parameter.register_post_accumulate_grad_hook(lambda p, name=name: kept.update({name: p.grad.clone()}))
        list(fit(task, task.config, accelerator, tmp_path / str(batch)))
        return kept

    whole, in_passes = gradients(batch_size=16), gradients(batch_size=4, gradient_accumulation_steps=4)
    assert whole.keys() == in_passes.keys() > set()
    assert all(torch.allclose(whole[name], in_passes[name], rtol=1e-3, atol=1e-6) for name in whole)
