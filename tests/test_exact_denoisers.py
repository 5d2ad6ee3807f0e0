"""What latents of known distribution allow: floors and denoisers against Monte Carlo and closed forms."""

from dataclasses import replace

import pytest
import torch
from conftest import uneven_statistics

from ldm_explorer.checkpoints import CheckpointError
from ldm_explorer.diagnosis.denoisers import DENOISERS, GaussianDenoiser, MemorisingDenoiser, make_denoiser
from ldm_explorer.diagnosis.floors import (
    covariance_eigenvalues,
    latent_covariance,
    loss_floors,
    memorised_z0,
    memorising_z0_mse,
    memorising_z0_mses,
)
from ldm_explorer.diagnosis.reading import floors_of
from ldm_explorer.diagnosis.statistics import measure_latents, measure_memorising, read_statistics, write_statistics
from ldm_explorer.latents import Posterior
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.prediction import PREDICTION_TYPES, add_noise, error_over_z0_error, target
from ldm_explorer.samplers import (
    SAMPLERS,
    denoise,
    draw_noise,
    final_latents,
    make_sampler,
    make_scheduler,
    prediction_types_of,
)
from ldm_explorer.schedules import SCHEDULES, make_schedule

SHAPE = (1, 2, 2)


def gaussian_latents(count: int, seed: int = 0) -> torch.Tensor:
    """`(count, 1, 2, 2)` of a known, uneven covariance and a mean that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.tensor([[1.0, 0.8, 0, 0], [0, 0.6, 0, 0.5], [0, 0, 0.3, 0], [0.9, 0, 0, 0.2]])
    return (torch.randn(count, 4, generator=generator) @ mixing + torch.tensor([0.5, 0, -0.5, 0])).view(-1, *SHAPE)


def small_pipeline(tiny_pipeline, schedule: str, prediction_type: str) -> LatentDiffusionPipeline:
    scheduler = make_scheduler(make_schedule(schedule), prediction_type)
    return LatentDiffusionPipeline(tiny_pipeline.vae, tiny_pipeline.unet, scheduler)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction_type", prediction_types_of(make_schedule("cosine")))
def test_the_exact_gaussian_denoiser_reaches_the_gaussian_floor_within_a_percent(
    tiny_pipeline, schedule, prediction_type
):
    latents = gaussian_latents(200_000)
    posterior = Posterior(latents, torch.zeros_like(latents))
    pipeline = small_pipeline(tiny_pipeline, schedule, prediction_type)
    alpha_bars = pipeline.scheduler.alphas_cumprod
    statistics = measure_latents(posterior[torch.arange(2)], torch.zeros(2).long(), alpha_bars, 0)
    flat = latents.flatten(1)
    statistics = replace(statistics, mean=flat.mean(0), covariance=torch.cov(flat.T, correction=0))
    denoiser = GaussianDenoiser(statistics, pipeline.denoiser)
    floor = loss_floors(prediction_type, alpha_bars, covariance_eigenvalues(posterior)).gaussian
    eps = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    for t in (100, 500, 900):
        z_t = add_noise(latents, eps, alpha_bars[t])
        error = denoiser.predict(z_t, torch.tensor(t)) - target(prediction_type, latents, eps, alpha_bars[t])
        assert float(error.square().mean()) == pytest.approx(float(floor[t]), rel=0.01)


def test_memorised_z0_is_the_mean_over_the_mixture_written_out():
    generator = torch.Generator().manual_seed(0)
    posterior = Posterior(torch.randn(5, *SHAPE, generator=generator), torch.rand(5, *SHAPE, generator=generator))
    z_t, abar = torch.randn(3, 4, generator=generator), torch.tensor(0.4)
    a, b2 = abar.sqrt(), 1 - abar
    mu, var = posterior.mean.flatten(1), posterior.std.flatten(1) ** 2
    for row, z in zip(memorised_z0(posterior, z_t, abar), z_t, strict=True):
        densities = torch.distributions.Normal(a * mu, (a**2 * var + b2).sqrt()).log_prob(z).sum(1)
        given = mu + a * var / (a**2 * var + b2) * (z - a * mu)
        assert torch.allclose(row, densities.softmax(0) @ given, atol=1e-5)


def test_the_running_softmax_does_not_depend_on_the_slices(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    posterior = Posterior(3 * torch.randn(50, *SHAPE, generator=generator), torch.full((50, *SHAPE), 0.1))
    z_t = torch.randn(7, 4, generator=generator)
    whole = memorised_z0(posterior, z_t, torch.tensor(0.5))
    monkeypatch.setattr("ldm_explorer.diagnosis.floors.MEMORISING_SLICE", 8)
    assert torch.allclose(memorised_z0(posterior, z_t, torch.tensor(0.5)), whole, atol=1e-5)


def test_there_is_no_memorising_floor_of_classes_that_were_not_told():
    posterior = Posterior(torch.randn(8, 1, 2, 2), torch.ones(8, 1, 2, 2))
    alpha_bars = make_schedule("cosine", 20).alpha_bars
    statistics = measure_latents(posterior, torch.arange(8) % 2, alpha_bars, 0)
    with pytest.raises(ValueError, match="is told no class"):
        statistics.memorising_floor("epsilon", alpha_bars, of_classes=True)
    unfinished = measure_latents(posterior, torch.arange(8) % 2, alpha_bars, 0, memorising=False)
    with pytest.raises(ValueError, match="not there yet: it is measured when the training ends"):
        unfinished.memorising_floor("epsilon", alpha_bars)
    finished = measure_memorising(unfinished, posterior, torch.arange(8) % 2, alpha_bars)
    assert finished.memorising.equal(statistics.memorising)


def test_the_memorising_floor_of_very_many_gaussian_latents_is_the_gaussian_floor():
    """With posteriors as wide as the gaps between them the training set looks like its distribution."""
    latents = gaussian_latents(20_000)
    posterior = Posterior(latents, torch.full_like(latents, 0.5))
    alpha_bars = torch.tensor([0.9, 0.5, 0.1])
    gaussian = loss_floors("sample", alpha_bars, covariance_eigenvalues(posterior)).gaussian
    assert torch.allclose(memorising_z0_mse(posterior, alpha_bars), gaussian, rtol=0.01)


def test_what_knows_the_label_knows_the_class_alone_and_what_does_not_knows_all_of_them():
    latents = torch.cat([gaussian_latents(100) + 1, gaussian_latents(60, seed=1) - 1])
    posterior, labels = Posterior(latents, torch.full_like(latents, 0.3)), torch.tensor([3] * 100 + [7] * 60)
    alpha_bars = torch.tensor([1.0, 0.9, 0.3, 1e-9])
    of_all, of_own = memorising_z0_mses(posterior, alpha_bars, labels)
    assert torch.allclose(of_all, memorising_z0_mse(posterior, alpha_bars), rtol=1e-4, atol=1e-6)
    assert (of_own <= of_all).all()
    of_each = torch.stack(
        [latent_covariance(posterior, (labels == label).nonzero().flatten()).trace() for label in (3, 7)]
    )
    assert float(of_own[-1]) == pytest.approx(float((of_each / 4) @ torch.tensor([100, 60]).double()) / 160, rel=0.005)


def test_knowing_the_training_set_or_the_label_never_costs():
    latents = torch.cat([gaussian_latents(100) + 2, gaussian_latents(100, seed=1) - 2])
    posterior, labels = Posterior(latents, torch.full_like(latents, 0.05)), torch.arange(200) // 100
    alpha_bars = make_schedule("cosine").alpha_bars
    statistics = measure_latents(posterior, labels, alpha_bars, 2)
    for prediction_type in PREDICTION_TYPES:
        floors = floors_of(statistics, prediction_type, alpha_bars, conditional=True)
        means = {name: float(floor[:990].mean()) for name, floor in floors.items()}
        assert means["memorising_per_class"] < means["memorising"]
        for suffix in ("", "_per_class"):
            assert (floors[f"memorising{suffix}"] <= 1.001 * floors[f"gaussian{suffix}"])[
                statistics.memorising_timesteps
            ].all()
        assert means["gaussian_per_class"] < means["gaussian"] < means["white"]


@pytest.mark.parametrize("prediction_type", prediction_types_of(make_schedule("cosine")))
def test_an_error_of_z0_weighs_what_the_target_says(prediction_type):
    generator = torch.Generator().manual_seed(0)
    z0, eps, wrong = torch.randn(3, 10, 4, generator=generator).unbind()
    abar = torch.tensor(0.3)
    z_t = add_noise(z0, eps, abar)
    wrong_eps = (z_t - abar.sqrt() * wrong) / (1 - abar).sqrt()
    error = target(prediction_type, wrong, wrong_eps, abar) - target(prediction_type, z0, eps, abar)
    expected = error_over_z0_error(prediction_type, abar) * (wrong - z0).square().mean()
    assert float(error.square().mean()) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction_type", prediction_types_of(make_schedule("cosine")))
def test_the_memorising_denoiser_generates_the_training_latents(tiny_pipeline, sampler, prediction_type):
    """With the schedule whose epsilon is defined at its end."""
    generator = torch.Generator().manual_seed(0)
    training = torch.randn(8, *SHAPE, generator=generator)
    pipeline = small_pipeline(tiny_pipeline, "linear", prediction_type)
    posterior = Posterior(training, torch.full_like(training, 1e-3))
    statistics = measure_latents(posterior, torch.arange(8) % 2, pipeline.scheduler.alphas_cumprod, 2)
    denoiser = MemorisingDenoiser(statistics, pipeline.denoiser)
    noise, generators = draw_noise(SHAPE, range(20))
    labels = torch.arange(20) % 2
    steps = denoise(
        denoiser,
        make_sampler(sampler, pipeline.scheduler),
        noise,
        labels,
        num_steps=50,
        generators=generators,
    )
    distances = torch.cdist(final_latents(steps).flatten(1), training.flatten(1))
    assert float(distances.min(1).values.max()) < 0.15
    assert (distances.argmin(1) % 2 == labels).all()


def test_only_channels_that_were_not_normalised_have_scales_of_their_own():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(500, 2, 4, 4, generator=generator) * torch.tensor([0.9, 1.0]).view(1, 2, 1, 1)
    mean[:, 0] += torch.tensor([-0.44, 0.44]).repeat(8).view(4, 4)  # of the same variance, by position
    abar = make_schedule("linear").alpha_bars
    labels = torch.zeros(500).long()
    normalised = measure_latents(Posterior(mean, torch.full_like(mean, 0.01)), labels, abar, 0).channel_variances
    assert float(normalised[0]) == float(normalised[1]) == pytest.approx(0.9, abs=0.03)
    raw = measure_latents(Posterior(3 * mean, torch.full_like(mean, 0.01)), labels, abar, 0).channel_variances
    assert raw.tolist() == pytest.approx([9 * 0.81, 9], rel=0.05)


def test_statistics_come_back_as_they_were_written(tmp_path):
    written = uneven_statistics()
    write_statistics(tmp_path, written)
    read = read_statistics(tmp_path)
    for name, value in vars(written).items():
        if name == "subset":
            assert torch.allclose(read.subset.mean, value.mean, atol=2e-3)
            assert torch.allclose(read.subset.std, value.std, atol=1e-4)
        else:
            assert torch.equal(getattr(read, name), value), name


def test_a_run_without_statistics_or_with_broken_ones(tmp_path, tiny_pipeline):
    assert read_statistics(tmp_path) is None
    fine = uneven_statistics()
    unfinished = replace(fine, memorising=None, class_memorising=None)
    write_statistics(tmp_path, unfinished)
    read = read_statistics(tmp_path)
    assert (read.memorising, read.class_memorising) == (None, None)
    assert torch.equal(read.class_eigenvalues, fine.class_eigenvalues)
    (tmp_path / "latents.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"train/latents\.py"):
        read_statistics(tmp_path)
    assert make_denoiser("network", None, tiny_pipeline.denoiser).network is tiny_pipeline.unet
    for name in set(DENOISERS) - {"network"}:
        with pytest.raises(ValueError, match=r"train/latents\.py"):
            make_denoiser(name, None, tiny_pipeline.denoiser)
    with pytest.raises(ValueError, match="unknown denoiser 'perfect'"):
        make_denoiser("perfect", uneven_statistics(), tiny_pipeline.denoiser)
    with pytest.raises(ValueError, match="256 values"):
        make_denoiser("Gaussian", replace(uneven_statistics(), covariance=None), tiny_pipeline.denoiser)


@pytest.mark.parametrize("name", ["Gaussian", "memorising"])
def test_statistics_of_other_latents_are_refused(tiny_pipeline, name):
    latents = torch.randn(20, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    alpha_bars = tiny_pipeline.scheduler.alphas_cumprod
    of_others = measure_latents(Posterior(latents, torch.ones_like(latents)), torch.zeros(20).long(), alpha_bars, 0)
    with pytest.raises(
        ValueError, match=rf"the {name} denoiser knows latents \(2, 4, 4\), and the network takes \(4, 8"
    ):
        make_denoiser(name, of_others, tiny_pipeline.denoiser)


def test_statistics_that_do_not_fit_one_another_are_refused(tmp_path):
    fine = uneven_statistics()
    backwards = fine.memorising_timesteps.flip(0)
    for broken, said in (
        (replace(fine, eigenvalues=fine.eigenvalues[:-1]), r"eigenvalues is of shape \(255,\), not \(256,\)"),
        (replace(fine, eigenvalues=fine.eigenvalues * torch.nan), "eigenvalues holds NaN or infinity"),
        (
            replace(fine, memorising_timesteps=backwards),
            r"memorising_timesteps \[999, 500, 0\]",
        ),
        (replace(fine, class_memorising=None), "belong together"),
        (replace(fine, memorising=None), "belong together"),
        (replace(fine, class_eigenvalues=fine.class_eigenvalues[:0]), "class_eigenvalues holds no class"),
    ):
        write_statistics(tmp_path, broken)
        with pytest.raises(CheckpointError, match=said):
            read_statistics(tmp_path)
