import math
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler
from helpers import build_seeded, same_weights
from torch import nn
from torchmetrics.functional.image import peak_signal_noise_ratio
from toy_training import train

from ldm_explorer.checkpoints import CheckpointError, read_checkpoint, save_model
from ldm_explorer.data import crop, to_model
from ldm_explorer.diagnosis.floors import covariance_eigenvalues, loss_floors
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.latents import LatentCodec, encode_posterior
from ldm_explorer.models import TransformerConfig, UNetConfig, VAEConfig
from ldm_explorer.prediction import min_snr_weight
from ldm_explorer.samplers import prediction_types_of
from ldm_explorer.schedules import MIN_EPSILON_TERMINAL_SNR, SCHEDULES, make_schedule
from ldm_explorer.training.encoding import encode_all
from ldm_explorer.training.tasks.autoencoder import AutoencoderTask, VAETrainConfig, load_perceptual
from ldm_explorer.training.tasks.classifier import ClassifierTrainConfig
from ldm_explorer.training.tasks.denoiser import FILM_IMAGES, VALIDATION_BINS, DenoiserTask, DenoiserTraining
from ldm_explorer.training.tasks.denoiser_config import LDMTrainConfig, default_widths

LDM_CONFIG = LDMTrainConfig(max_steps=1, widths=(16, 32), layers_per_block=1, threads=1)
VAE_CONFIG = VAETrainConfig(max_steps=1, widths=(16,), kl_weight=0.5, threads=1)


def ldm_task(tiny_vae, shapes, other_shapes, **options) -> DenoiserTask:
    codec = LatentCodec(tiny_vae)
    training, validation = encode_posterior(codec, shapes.images), encode_posterior(codec, other_shapes.images)
    config = replace(LDM_CONFIG, **options)
    return DenoiserTask(config, tiny_vae, training, shapes.labels, validation, other_shapes.labels)


@pytest.fixture
def task(tiny_vae, shapes, other_shapes) -> DenoiserTask:
    return ldm_task(tiny_vae, shapes, other_shapes)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Oracle(nn.Module):
    """Knows the z0 and eps of a batch, and predicts `prediction_type` exactly."""

    def __init__(self, batch, scheduler: DDPMScheduler, prediction_type: str):
        super().__init__()
        self.batch, self.scheduler, self.prediction_type = batch, scheduler, prediction_type

    def forward(self, z_t, timesteps, *_, **__):
        z0, eps = self.batch["z0"], self.batch["eps"]
        assert torch.allclose(z_t, self.scheduler.add_noise(z0, eps, timesteps), atol=1e-6)
        v = self.scheduler.get_velocity(z0, eps, timesteps)
        return ({"epsilon": eps, "sample": z0, "v_prediction": v}[self.prediction_type],)


class Early(nn.Module):
    """Wrong by 3 in the first tenth of 1000 timesteps only."""

    def forward(self, z_t, timesteps, *_, **__):
        return (3.0 * (timesteps < 100).float().view(-1, 1, 1, 1).expand_as(z_t),)


class Late(nn.Module):
    """Wrong by 9 in the last tenth of 1000 timesteps only."""

    def forward(self, z_t, timesteps, *_, **__):
        return (9.0 * (timesteps >= 900).float().view(-1, 1, 1, 1).expand_as(z_t),)


class Zero(nn.Module):
    """Predicts nothing, and has a parameter, so that it has a device."""

    def __init__(self):
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(()))

    def forward(self, z_t, *_, **__):
        return (torch.zeros_like(z_t),)


def test_epsilon_is_refused_where_the_schedule_leaves_no_signal():
    with pytest.raises(ValueError, match="epsilon says nothing of the image where the SNR is 2e-09"):
        replace(LDM_CONFIG, prediction="epsilon", schedule="cosine")
    with pytest.raises(ValueError, match="SNR is 0"):
        replace(LDM_CONFIG, prediction="epsilon", schedule="linear", zero_terminal_snr=True)


def test_the_prediction_is_the_velocity_of_the_schedule_unless_it_is_given():
    assert replace(LDM_CONFIG, schedule="linear", prediction=None).prediction == "v_prediction"
    assert replace(LDM_CONFIG, schedule="flow", prediction=None).prediction == "flow"
    assert replace(LDM_CONFIG, schedule="flow", prediction="sample").prediction == "sample"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prediction": "v_prediction"}, "v needs a schedule that preserves variance: choose flow, epsilon, sample"),
        ({"prediction": "epsilon"}, "SNR is 0, as at the end of this schedule, where sampling starts: choose --pred"),
        ({"prediction": "flow", "schedule": "cosine"}, "no sampler of diffusers reads u along it: choose epsilon, v_"),
        ({"prediction": None, "zero_terminal_snr": True}, "a flow ends in pure noise anyway: leave it out"),
        ({"prediction": None, "timesteps": "importance"}, "importance does not go with --schedule flow"),
        ({"prediction": None, "timesteps": "logit_normal", "schedule": "cosine"}, "does not go with --schedule cosine"),
    ],
)
def test_what_does_not_go_with_a_flow_is_refused_in_a_sentence(options, said):
    with pytest.raises(ValueError, match=said) as refused:
        replace(LDM_CONFIG, **{"schedule": "flow"} | options)
    assert "\n" not in str(refused.value)


def test_the_learning_rate_follows_the_optimizer_unless_it_is_given():
    assert VAETrainConfig().learning_rate == VAETrainConfig.LEARNING_RATES["muon"]
    assert VAETrainConfig(optimizer="adamw").learning_rate == VAETrainConfig.LEARNING_RATES["adamw"]
    assert LDMTrainConfig(optimizer="adamw", learning_rate=0.5).learning_rate == 0.5


@pytest.mark.parametrize("side", [4, 8, 16, 32, 64])
def test_default_widths_fit_every_grid_and_are_narrower_where_it_is_finer(side):
    widths = default_widths(side)
    assert list(widths) == sorted(widths)
    assert len(widths) == max(2, int(math.log2(side)) - 1)
    assert UNetConfig(side, 4, 10, widths=widths, layers_per_block=1).widths == widths


def test_label_dropout_without_labels_is_refused():
    with pytest.raises(ValueError, match="--no-class-labels"):
        replace(LDM_CONFIG, class_labels=False, label_dropout=0.2)


OF_BETAS = prediction_types_of(make_schedule("cosine"))
DIFFUSERS_NAMES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
TRAINABLE = [
    (prediction, schedule)
    for prediction, schedule in product(OF_BETAS, SCHEDULES)
    if prediction != "epsilon" or make_schedule(schedule).snr[-1] >= MIN_EPSILON_TERMINAL_SNR
]


@pytest.mark.parametrize(("prediction", "schedule"), TRAINABLE)
def test_a_perfect_prediction_has_no_loss(tiny_vae, shapes, other_shapes, prediction, schedule):
    task = ldm_task(tiny_vae, shapes, other_shapes, prediction=prediction, schedule=schedule)
    batch = task.batch(torch.arange(64), generator())
    if schedule in DIFFUSERS_NAMES:
        theirs = DDPMScheduler(beta_schedule=DIFFUSERS_NAMES[schedule])
    else:
        theirs = DDPMScheduler(trained_betas=make_schedule(schedule).betas)
    assert float(task.loss(Oracle(batch, theirs, prediction), batch)["loss"]) < 1e-10


@pytest.mark.parametrize("prediction", OF_BETAS)
def test_predicting_nothing_costs_the_variance(tiny_vae, shapes, other_shapes, prediction):
    """Latents and noise have variance 1, and so has every mix of the two."""
    task = ldm_task(tiny_vae, shapes, other_shapes, prediction=prediction, schedule="linear")
    loss = task.loss(Zero(), task.batch(torch.arange(200), generator()))["loss"]
    assert float(loss) == pytest.approx(1, abs=0.03)
    assert task.validate(Zero())["loss"] == pytest.approx(1, abs=0.1)


def test_the_loss_is_the_mean_of_the_errors_per_image(task):
    batch = task.batch(torch.arange(16), generator())
    errors = task.errors(task.model, batch)
    assert errors.shape == (16,)
    assert torch.equal(task.loss(task.model, batch)["loss"], errors.mean())


def test_min_snr_weighs_the_training_loss_and_leaves_validation_alone(tiny_vae, shapes, other_shapes, task):
    weighted = ldm_task(tiny_vae, shapes, other_shapes, min_snr_gamma=5.0)
    batch = task.batch(torch.arange(16), generator())
    weights = min_snr_weight("v_prediction", task.schedule.at(batch["timesteps"]), 5.0)
    expected = (weights * task.errors(task.model, batch)).mean()
    losses = weighted.loss(task.model, batch)
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert losses["mse"].item() == pytest.approx(task.loss(task.model, batch)["loss"].item(), rel=1e-6)
    assert weighted.validate(task.model) == task.validate(task.model)


def test_latents_are_sampled_from_the_posterior_of_their_image(task):
    indices = torch.full((2000,), 17)
    z0 = task.batch(indices, generator())["z0"]
    assert torch.allclose(z0.mean(0), task.posterior.mean[17], atol=0.15)
    assert torch.allclose(z0.std(0), task.posterior.std[17], atol=0.15)


def test_latents_noise_and_timesteps_of_a_batch_are_drawn_apart(task):
    batch = task.batch(torch.arange(200), generator())
    correlation = torch.corrcoef(torch.stack([batch["z0"].flatten(), batch["eps"].flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.03


def test_a_batch_repeats_by_its_generator_alone(task):
    first, again, other = (task.batch(torch.arange(8), generator(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["eps"], other["eps"])


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5])
def test_labels_are_dropped_at_the_stated_rate(tiny_vae, shapes, other_shapes, dropout):
    task = ldm_task(tiny_vae, shapes, other_shapes, label_dropout=dropout)
    indices = torch.arange(8000) % len(shapes)
    labels = task.batch(indices, generator())["labels"]
    dropped = labels == task.config.spec.null_class
    assert float(dropped.float().mean()) == pytest.approx(dropout, abs=4 * (dropout * (1 - dropout) / 8000) ** 0.5)
    assert torch.equal(labels[~dropped], shapes.labels[indices][~dropped])


def test_without_class_labels_there_are_none(tiny_vae, shapes, other_shapes):
    task = ldm_task(tiny_vae, shapes, other_shapes, class_labels=False)
    batch = task.batch(torch.arange(8), generator())
    assert "labels" not in batch
    assert task.model.config.num_class_embeds is None
    assert task.loss(task.model, batch)["loss"].isfinite()


@pytest.mark.parametrize("num_timesteps", [50, 1000])
def test_timesteps_are_spread_evenly_and_reach_all_of_them(tiny_vae, shapes, other_shapes, num_timesteps):
    task = ldm_task(tiny_vae, shapes, other_shapes, num_timesteps=num_timesteps)
    drawn = torch.stack([task.batch(torch.arange(50), generator(seed))["timesteps"] for seed in range(300)])
    width = num_timesteps // 50
    assert torch.equal(drawn // width, torch.arange(50).expand(300, -1))
    assert set(drawn.flatten().tolist()) == set(range(num_timesteps))


@pytest.mark.parametrize("prediction", OF_BETAS)
def test_importance_draws_where_errors_are_and_leaves_the_expected_loss(tiny_vae, shapes, other_shapes, prediction):
    options = {"prediction": prediction, "schedule": "linear", "timesteps": "importance"}
    task = ldm_task(tiny_vae, shapes, other_shapes, **options)
    probabilities = task.timestep_probabilities
    assert float(probabilities.sum()) == pytest.approx(1)
    assert float(probabilities.min()) >= 0.5 / 1000
    size = 100_000
    drawn = task._draw_timesteps(size, generator())
    counts = torch.bincount(drawn, minlength=1000)
    assert (counts - size * probabilities).abs().max() <= 2
    even = ldm_task(tiny_vae, shapes, other_shapes, prediction=prediction, schedule="linear")
    of_many = torch.arange(4000) % 200
    wrong = [Early(), Late()]
    losses = [[one.loss(net, one.batch(of_many, generator()))["loss"].item() for net in wrong] for one in (task, even)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert max(losses[1]) > 2 * min(losses[1])
    floor = loss_floors(prediction, task.schedule.amplitudes, covariance_eigenvalues(task.posterior)).gaussian
    assert torch.equal(probabilities.argsort(), floor.double().argsort())


@pytest.mark.parametrize("fraction", [0.0, 1 - 2**-24], ids=["smallest", "largest"])
def test_the_extreme_draws_stay_inside_the_schedule(task, monkeypatch, fraction):
    """torch.rand gives multiples of 2^-24 below 1; added to the number of a stratum they may round up."""
    monkeypatch.setattr(torch, "rand", lambda size, **_: torch.full((size,), fraction))
    timesteps = task.batch(torch.arange(256) % 200, generator())["timesteps"]
    assert int(timesteps.min()) >= 0
    assert int(timesteps.max()) < task.config.num_timesteps


def test_validation_repeats_and_averages_its_bins(task):
    with torch.no_grad():
        first = task.validate(task.model)
        torch.manual_seed(1)
        assert task.validate(task.model) == first
    assert len(first["loss_per_bin"]) == VALIDATION_BINS
    assert first["loss"] == pytest.approx(sum(first["loss_per_bin"]) / VALIDATION_BINS, rel=1e-5)


def test_validation_spreads_over_all_timesteps_and_keeps_the_labels(task, other_shapes):
    seen = {"timesteps": [], "labels": []}

    class Watch(Zero):
        def forward(self, z_t, timesteps, class_labels=None, **_):
            seen["timesteps"] += timesteps.tolist()
            seen["labels"] += class_labels.tolist()
            return super().forward(z_t, timesteps)

    task.validate(Watch())
    assert seen["timesteps"] == [20 * index for index in range(50)]
    assert seen["labels"] == other_shapes.labels.tolist()


def test_few_timesteps_leave_no_bin_undefined(tiny_vae, shapes, other_shapes):
    task = ldm_task(tiny_vae, shapes, other_shapes, num_timesteps=4)
    assert all(value == value for value in task.validate(Zero())["loss_per_bin"])


@pytest.mark.parametrize("latent_size", [4, 8, 16])
def test_the_unet_fits_the_latents_of_its_autoencoder(latent_size):
    vae = build_seeded(VAEConfig(latent_size=latent_size, latent_channels=3, widths=(16,)))
    config = replace(LDM_CONFIG, widths=(32, 32)).network_for(vae)
    assert (config.latent_size, config.latent_channels, config.num_classes) == (latent_size, 3, 10)


def test_options_that_no_network_has_are_refused(tiny_vae):
    with pytest.raises(ValueError, match=r"widths \(\): give multiples of 16"):
        replace(LDM_CONFIG, widths=()).network_for(tiny_vae)
    with pytest.raises(ValueError, match="attention_max_side is -3: give a side, or 0"):
        replace(LDM_CONFIG, widths=None, attention_max_side=-3).network_for(tiny_vae)


def test_the_transformer_fits_the_latents_of_its_autoencoder(tiny_vae):
    config = LDMTrainConfig(network="transformer", patch_size=2, max_steps=1)
    assert config.network_for(tiny_vae) == TransformerConfig(8, 4, 10, config.width, config.depth, patch_size=2)
    assert replace(config, class_labels=False).network_for(tiny_vae).num_classes == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"widths": (32,)}, "--widths does not go with --network transformer: leave it out"),
        ({"attention_max_side": 8}, "--attention-max-side does not go with --network transformer"),
        ({"network": "unet", "patch_size": 2}, "--patch-size does not go with --network unet"),
        ({"patch_size": 3}, "patches of side 3 do not divide a latent of side 8"),
        ({"width": 40}, "width 40: give a multiple of 32"),
        ({"depth": 0}, "depth 0: give 1 to 64 blocks"),
    ],
)
def test_what_does_not_go_with_a_transformer_is_refused_by_name(tiny_vae, options, said):
    with pytest.raises(ValueError, match=said):
        LDMTrainConfig(**{"network": "transformer", "max_steps": 1} | options).network_for(tiny_vae)


@pytest.mark.parametrize("options", [{"label_dropout": 0.5}, {"class_labels": False, "schedule": "flow"}], ids=str)
def test_a_transformer_that_resumes_equals_one_that_was_not_interrupted(
    accelerator, tmp_path, tiny_vae, shapes, other_shapes, options
):
    """Its own blocks would drop labels by the global generator."""
    config = LDMTrainConfig(
        network="transformer", width=32, depth=2, patch_size=2, max_steps=4, batch_size=8, lr_warmup_steps=1,
        precision="fp32", threads=1, validate_every_steps=4, **options,
    )  # fmt: skip

    def run(name: str, stop_after: int | None = None, **changes):
        training, validation = (encode_posterior(LatentCodec(tiny_vae), some.images) for some in (shapes, other_shapes))
        changed = replace(config, **changes)
        task = DenoiserTask(changed, tiny_vae, training, shapes.labels, validation, other_shapes.labels)
        torch.manual_seed(123 if changes else 0)
        return train(task, changed, accelerator, tmp_path / name, stop_after)

    _, whole, averaged = run("whole")
    run("parts", stop_after=2)
    _, resumed, resumed_average = run("parts", resume=True)
    assert same_weights(resumed, whole)
    assert same_weights(resumed_average, averaged)
    built = config.network_for(tiny_vae).build().state_dict()
    assert not any(torch.equal(whole[name], built[name]) for name in whole if "norm1.linear" in name)


def test_a_unet_that_halves_the_latents_too_often_is_refused(tiny_vae):
    with pytest.raises(ValueError, match="fewer widths"):
        replace(LDM_CONFIG, widths=(32,) * 5).network_for(tiny_vae)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label_dropout": 1.0}, "--label-dropout is 1.0"),
        ({"label_dropout": -0.1}, "--label-dropout is -0.1"),
        ({"num_timesteps": 1}, "num_timesteps is 1"),
        ({"min_snr_gamma": float("inf")}, "--min-snr-gamma is inf: it has to be a finite number of"),
        ({"min_snr_gamma": 1e-300}, "--min-snr-gamma is 1e-300: it has to be a finite number of at least 0.001"),
        ({"dataset": "imagenet"}, "imagenet"),
    ],
)
def test_bad_options_of_the_denoiser_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        _ = replace(LDM_CONFIG, **options).spec


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kl_weight": -1.0}, "--kl-weight is -1.0"),
        ({"perceptual_weight": 0.0}, "--perceptual-weight is 0.0"),
        ({"latent_size": 5}, "latent size 5"),
        ({"latent_channels": 0}, "latent channels"),
        ({"widths": (10,)}, "width"),
        ({"dataset": "imagenet"}, "imagenet"),
    ],
)
def test_bad_options_of_the_autoencoder_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        replace(VAE_CONFIG, **options)


def test_the_autoencoder_loss_is_the_squared_error_and_the_weighted_kl_per_pixel(shapes, other_shapes):
    task = AutoencoderTask(VAE_CONFIG, shapes, other_shapes)
    batch = task.batch(torch.arange(16), generator())
    pixels = to_model(shapes.images[:16])
    assert torch.equal(batch["pixels"], pixels)
    with torch.no_grad():
        losses = task.loss(task.model, batch)
        posterior = task.model.vae.encode(pixels).latent_dist
        reconstruction = task.model.vae.decode(posterior.mean + posterior.std * batch["noise"]).sample
    kl_per_pixel = posterior.kl().mean() / pixels[0].numel()  # diffusers sums over the latent
    expected = nn.functional.mse_loss(reconstruction, pixels)
    assert float(losses["loss"]) == pytest.approx(float(expected + 0.5 * kl_per_pixel), rel=1e-5)
    assert float(losses["kl_per_value"]) == pytest.approx(float(posterior.kl().mean()) / (4 * 8 * 8), rel=1e-5)


def test_a_perceptual_loss_compares_feature_maps_at_the_images_own_side(shapes, other_shapes):
    network = FeatureNet(1, 10, widths=(8, 16)).requires_grad_(False)
    task = AutoencoderTask(replace(VAE_CONFIG, perceptual_weight=0.5), shapes, other_shapes, network)
    batch = task.batch(torch.arange(8), generator())
    seen = []
    network.stem.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    losses = task.loss(task.model, batch)
    plain = AutoencoderTask(VAE_CONFIG, shapes, other_shapes).loss(task.model, batch)
    assert [tuple(images.shape) for images in seen] == [(8, 1, 28, 28)] * 2
    assert torch.equal(seen[1], crop(batch["pixels"], VAE_CONFIG.spec))
    assert float(losses["loss"]) == pytest.approx(float(plain["loss"] + 0.5 * losses["perceptual"]), rel=1e-5)
    losses["loss"].backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    with torch.no_grad():
        assert "perceptual" not in task.validate(task.model)


def test_the_classifier_that_measures_is_refused_as_a_loss(tmp_path):
    reference, other = tmp_path / "features", tmp_path / "other"
    for folder in (reference, other):
        save_model(FeatureNet(1, 10, widths=(8, 16)), folder / "features")
    dataset = f"folder:{tmp_path}"
    config = SimpleNamespace(spec=VAE_CONFIG.spec, dataset=dataset, perceptual=reference)
    with pytest.raises(ValueError, match="is what evaluations measure with"):
        load_perceptual(config)
    config.perceptual = other
    assert not any(parameter.requires_grad for parameter in load_perceptual(config).parameters())
    config.perceptual = tmp_path
    with pytest.raises(CheckpointError):
        load_perceptual(config)


def test_autoencoder_validation_measures_the_mode_per_image(shapes, other_shapes):
    task = AutoencoderTask(VAE_CONFIG, shapes, other_shapes)
    pixels = to_model(other_shapes.images)
    with torch.no_grad():
        figures = task.validate(task.model)
        assert task.validate(task.model) == figures
        reconstruction = task.model.vae.decode(task.model.vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
    images = [crop((batch + 1) / 2, VAE_CONFIG.spec) for batch in (reconstruction, pixels)]
    psnr = peak_signal_noise_ratio(*images, data_range=1.0, dim=(1, 2, 3))
    assert figures["psnr_db"] == pytest.approx(float(psnr), abs=1e-3)


def test_building_a_task_twice_gives_the_same_start(shapes, other_shapes, task, tiny_vae):
    one, other = AutoencoderTask(VAE_CONFIG, shapes, other_shapes), AutoencoderTask(VAE_CONFIG, shapes, other_shapes)
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
    again = ldm_task(tiny_vae, shapes, other_shapes)
    assert all(torch.equal(a, b) for a, b in zip(task.model.parameters(), again.model.parameters(), strict=True))


class Loading(Exception):
    """The data would be loaded now."""


@pytest.mark.parametrize(
    ("options", "ends_early"),
    [
        ({"schedule": "linear", "num_timesteps": 50}, True),
        ({"schedule": "linear", "num_timesteps": 250}, True),
        ({"schedule": "linear"}, False),
        ({"schedule": "cosine", "num_timesteps": 50}, False),
        ({"schedule": "linear", "num_timesteps": 50, "zero_terminal_snr": True}, False),
    ],
)
def test_a_schedule_that_ends_early_is_told_of_before_anything_is_loaded(
    options, ends_early, vae_folder, monkeypatch, caplog
):
    def load(*_):
        raise Loading

    training = DenoiserTraining(LDMTrainConfig(vae=vae_folder, **options))
    monkeypatch.setattr(LDMTrainConfig, "load", load)
    for is_main_process in (True, False):
        with pytest.raises(Loading):
            training.make_task(SimpleNamespace(is_main_process=is_main_process), vae_folder)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == ends_early
    assert all("sampling will start from noise that this training never sees" in sentence for sentence in said)


def test_flipping_mirrors_half_of_the_images_anew_at_every_step(shapes, other_shapes):
    task, plain = (AutoencoderTask(replace(VAE_CONFIG, flip=flip), shapes, other_shapes) for flip in (True, False))
    indices = torch.arange(200)
    batches = [task.batch(indices, generator(seed)) for seed in (1, 1, 2)]
    same = [(batch["pixels"] == plain.batch(indices, generator(1))["pixels"]).flatten(1).all(1) for batch in batches]
    pixels = to_model(shapes.images)
    mirrored = pixels.flip(-1)
    for batch, as_it_is in zip(batches, same, strict=True):
        assert 60 < int(as_it_is.sum()) < 140
        assert torch.equal(batch["pixels"][~as_it_is], mirrored[~as_it_is])
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])
    assert torch.equal(batches[0]["noise"], plain.batch(indices, generator(1))["noise"])


def test_flipping_draws_the_latents_of_images_and_of_their_mirror_images(tiny_vae, shapes, other_shapes):
    codec, config = LatentCodec(tiny_vae), replace(LDM_CONFIG, flip=True)
    posterior = encode_all(codec, shapes.images, mirrored=True)
    sharp = replace(posterior, std=torch.zeros_like(posterior.std))
    task = DenoiserTask(config, tiny_vae, sharp, shapes.labels, sharp, shapes.labels)
    assert task.num_examples == len(shapes)
    batch = task.batch(torch.arange(200), generator())
    direct, mirrored = ((batch["z0"] == part).flatten(1).all(1) for part in sharp.mean.split(200))
    assert (direct | mirrored).all()
    assert 60 < int(direct.sum()) < 140
    kept = batch["labels"] != config.spec.null_class
    assert torch.equal(batch["labels"][kept], shapes.labels[kept])
    plain = ldm_task(tiny_vae, shapes, other_shapes).batch(torch.arange(200), generator())
    assert all(torch.equal(batch[name], plain[name]) for name in ("eps", "timesteps", "labels"))


def test_a_schedule_of_few_steps_is_filmed_and_sampled_with_no_more(tiny_vae, shapes, other_shapes, tmp_path):
    task = ldm_task(tiny_vae, shapes, other_shapes, schedule="flow", prediction="flow", num_timesteps=4)
    assert task.sample(task.model.eval()).shape == (FILM_IMAGES, 1, 28, 28)
    task.export(task.model, tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.sampling.num_inference_steps == 4
    assert checkpoint.pipeline([3], [0], output_type="pt").images.isfinite().all()


@pytest.mark.parametrize("widths", [(), (8,) * 9, (12, 16), (0,), (8200,)])
def test_a_classifier_that_no_reader_would_take_is_refused_before_it_trains(widths, tmp_path):
    with pytest.raises(ValueError, match=r"--widths are .* give 1 to 8 multiples of 8, of at most 8192"):
        ClassifierTrainConfig(out=tmp_path, widths=widths)
