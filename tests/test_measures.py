"""Every measure beside an independent implementation, a closed form, or made inputs whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import draw_shapes
from prdc import compute_prdc
from scipy.fft import dctn
from scipy.linalg import sqrtm
from scipy.stats import gmean
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.nn import functional as F

from ldm_explorer.data import DatasetSpec, ImageSet, crop, dataset_spec, to_model
from ldm_explorer.evaluation.continuity import (
    halfway,
    images_at_side,
    measure_half_scale,
    measure_spectrum,
    nearest_neighbours,
    random_partners,
    turn_error,
)
from ldm_explorer.evaluation.copying import measure_copying, nearest_distance
from ldm_explorer.evaluation.features import FeatureNet, feature_fd_percent, perceptual_distance
from ldm_explorer.evaluation.latent_space import kl_map, measure_latent_use, raw_posteriors
from ldm_explorer.evaluation.paths import (
    NUM_STEPS,
    lerp,
    local_stretch,
    measure_paths,
    path_lengths,
    slerp,
)
from ldm_explorer.evaluation.reconstruction import psnr_db, ssim
from ldm_explorer.evaluation.reference import Reference, flat_measures, mean_and_spread
from ldm_explorer.evaluation.variety import measure_variety
from ldm_explorer.latents import LatentCodec, Posterior

SPEC = dataset_spec("fashion_mnist")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def codec_of(encode, decode) -> SimpleNamespace:
    """What a `LatentCodec` does, by two functions."""
    return SimpleNamespace(encode=encode, decode=decode, decode_with_gradient=decode)


class TestDistances:
    def test_frechet_distance_of_known_gaussians(self):
        """Sets whose mean and covariance are exactly known: |m1-m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) (Dowson 1982)."""
        generator = np.random.default_rng(0)
        half = generator.standard_normal((500, 64))
        whitened = np.concatenate([half, -half])
        whitened = whitened @ np.linalg.inv(np.linalg.cholesky(np.cov(whitened.T)).T)
        mixes, means = generator.standard_normal((2, 64, 64)) / 8, generator.standard_normal((2, 64))
        sets = [whitened @ mix + mean for mix, mean in zip(mixes, means, strict=True)]
        covariances = [mix.T @ mix for mix in mixes]
        trace = np.trace(covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real)
        expected = 100 * (np.square(means[0] - means[1]).sum() + trace) / np.trace(covariances[1])
        measured = feature_fd_percent(*(torch.tensor(points, dtype=torch.float32) for points in sets))
        assert measured == pytest.approx(expected, rel=1e-3)

    def test_perceptual_distance_is_relative_to_each_map(self):
        network = SimpleNamespace(maps=lambda images: [images, 100 * images])
        reference = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        assert perceptual_distance(network, reference, reference) == 0
        assert float(perceptual_distance(network, 1.5 * reference, reference)) == pytest.approx(2 * 0.25)

    def test_psnr_and_ssim_are_those_of_scikit_image(self):
        images = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
        noisy = (images + 0.3 * normal(*images.shape)).clamp(-1, 1)
        pairs = [(a[0].numpy() / 2 + 0.5, b[0].numpy() / 2 + 0.5) for a, b in zip(images, noisy, strict=True)]
        psnr = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs]
        assert psnr_db(noisy, images).tolist() == pytest.approx(psnr, abs=1e-4)
        gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
        # scikit-image leaves 5 pixels at every edge out of its mean; torchmetrics takes them in, mirrored
        mirrored = [[np.pad(image, 5, mode="reflect") for image in pair] for pair in pairs]
        expected = [structural_similarity(*pair, **gaussian) for pair in mirrored]
        assert ssim(noisy, images).tolist() == pytest.approx(expected, abs=1e-5)


class TestVariety:
    @pytest.mark.parametrize("k", [1, 5])
    @pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.7, 0.3), (1.5, 1.0)])
    def test_is_that_of_the_prdc_package(self, k, scale, shift):
        real, samples = normal(300, 8), normal(260, 8, seed=1) * scale + shift
        expected = compute_prdc(real.numpy(), samples.numpy(), k)
        measured = measure_variety(samples, real, k)
        assert vars(measured) == pytest.approx(expected, abs=1e-9)

    def test_of_one_image_over_and_over(self):
        """Precise, but nothing is recalled; 1 of 300 real images and perhaps its neighbours are covered."""
        real = normal(300, 8)
        copies = real[:1] + 1e-4 * normal(300, 8, seed=1)
        measured = measure_variety(copies, real)
        assert measured.precision == 1
        assert measured.recall <= 1 / 300
        assert measured.coverage < 0.1

    def test_too_few_samples_have_no_neighbours(self):
        with pytest.raises(ValueError, match="5 samples and 100 real images: give more than 5"):
            measure_variety(normal(5, 8), normal(100, 8))


class TestCopying:
    def test_distance_to_the_nearest_training_image(self):
        training = torch.randint(0, 256, (50, 1, 28, 28), dtype=torch.uint8)
        images = training[[3, 7, 11]].clone()
        images[1, 0, 4, 4] = 255 - images[1, 0, 4, 4]
        everything = torch.cdist(images.flatten(1).double(), training.flatten(1).double()).amin(1)
        assert nearest_distance(images, training).tolist() == pytest.approx(everything.tolist(), rel=1e-5)
        assert nearest_distance(images, training)[0] == 0

    def test_nothing_is_copied_when_both_are_drawn_alike(self):
        copying = measure_copying(normal(20_000).abs(), normal(20_000, seed=1).abs())
        assert copying.ratio_of_medians == pytest.approx(1, abs=0.03)
        assert copying.near_share == pytest.approx(0.01, abs=0.003)

    def test_a_quarter_of_copies_is_found(self):
        distances = 5 + normal(4000).abs()
        distances[:1000] = 0
        assert measure_copying(distances, 5 + normal(4000, seed=1).abs()).near_share == pytest.approx(0.2575, abs=0.005)


class TestLatentUse:
    def test_kl_is_that_of_torch(self):
        mean, std = normal(20, 2, 4, 4), normal(20, 2, 4, 4, seed=1).abs() + 0.1
        ours = kl_map(Posterior(mean, std))
        theirs = torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
        ).mean(0)
        assert torch.allclose(ours, theirs, rtol=1e-4)

    def test_units_that_ignore_the_image_are_not_active(self):
        mean = normal(500, 4, 2, 2)
        mean[:, 1] = 3 + 0.05 * normal(500, 2, 2)  # far from 0, but it says next to nothing
        mean[:, 2, 0] = 0
        use = measure_latent_use(Posterior(mean, torch.ones_like(mean)))
        assert use.active_units == (16 - 4 - 2) / 16
        assert use.kl_per_value == pytest.approx(float(mean.square().mean() / 2), rel=1e-5)

    def test_posteriors_are_raw(self, tiny_vae, shapes):
        posterior = raw_posteriors(LatentCodec(tiny_vae), shapes.images[:3])
        expected = tiny_vae.encode(to_model(shapes.images[:3])).latent_dist
        assert torch.equal(posterior.mean, expected.mean)
        assert torch.equal(posterior.std, expected.std)


class TestInterpolation:
    def test_nearest_neighbours_and_half_way_points(self):
        latents = torch.tensor([0.0, 1, 10, 10.5, 30]).view(-1, 1, 1, 1)
        neighbours = nearest_neighbours(latents)
        assert neighbours.tolist() == [1, 0, 3, 2, 3]
        assert halfway(latents, neighbours).flatten().tolist() == [0.5, 0.5, 10.25, 10.25, 20.25]

    def test_a_pattern_that_all_latents_share_hides_no_neighbour(self):
        latents, shared = 1e-2 * normal(300, 4, 4, 4), 5 * normal(4, 4, 4, seed=1)
        assert nearest_neighbours(latents + shared).equal(nearest_neighbours(latents))

    def test_partners_are_others_and_everyone_is_one(self):
        partners = random_partners(100)
        assert sorted(partners.tolist()) == list(range(100))
        assert (partners != torch.arange(100)).all()

    def test_ifd_is_the_fd_of_the_decoded_half_way_points(self):
        """A decoder that adds the latent to every pixel: half-way between images of grey 0 and 200 lies grey 100."""
        spec = DatasetSpec(1, 8, 8, ("dark", "light"), 0)
        torch.manual_seed(0)
        network = FeatureNet(1, 2, widths=(8, 16)).eval()
        labels = torch.arange(80) % 2
        grain = 2 * torch.randint(0, 10, (80, 1, 8, 8))  # even, so that half-way points are whole
        images = ((labels * 200).view(-1, 1, 1, 1) + grain).to(torch.uint8)
        reference = Reference(spec, network, *[ImageSet(images, labels)] * 3, num_images=80)
        codec = codec_of(lambda x: x, lambda z: z)
        figures = reference.continuity(codec)
        latents = to_model(images)
        neighbours = nearest_neighbours(latents)
        assert (labels[neighbours] == labels).all()
        for name, partners in (("ifd_percent", neighbours), ("ifd_random_percent", random_partners(80))):
            blends = (images.float() + images[partners].float()) / 2
            assert figures[name] == pytest.approx(reference.fd_percent(blends.byte()), rel=1e-3)


class TestSpectrum:
    def test_of_white_noise(self):
        spectrum = measure_spectrum(normal(4000, 2, 8, 8))
        frequencies = torch.arange(8)
        high = int((frequencies[:, None] + frequencies[None] > 8).sum())
        assert spectrum.high_share == pytest.approx(high / 63, abs=0.005)
        assert spectrum.flatness == pytest.approx(1, abs=0.005)

    def test_of_single_waves(self):
        position = torch.arange(8).double() + 0.5
        waves = [torch.cos(torch.pi / 8 * k * position) for k in (2, 7)]
        low, high = (wave[:, None] * wave[None] for wave in waves)
        assert measure_spectrum(low.view(1, 1, 8, 8)).high_share == pytest.approx(0, abs=1e-12)
        assert measure_spectrum(high.view(1, 1, 8, 8)).high_share == pytest.approx(1, abs=1e-12)
        assert measure_spectrum(low.view(1, 1, 8, 8)).flatness < 1e-6

    def test_the_constant_is_left_out(self):
        maps = normal(50, 1, 8, 8)
        with_constant, without = measure_spectrum(maps + 100), measure_spectrum(maps)
        assert vars(with_constant) == pytest.approx(vars(without), rel=1e-6)

    def test_the_transform_is_scipys(self):
        maps = normal(30, 3, 4, 8).double()
        power = np.square(dctn(maps.numpy(), axes=(2, 3), norm="ortho")).mean(axis=(0, 1))
        high = [[u / 4 + v / 8 > 1 for v in range(8)] for u in range(4)]
        spectrum = measure_spectrum(maps)
        assert spectrum.high_share == pytest.approx(power[high].sum() / (power.sum() - power[0, 0]))
        varying = power.flatten()[1:]
        assert spectrum.flatness == pytest.approx(gmean(varying) / varying.mean())

    @pytest.mark.parametrize("maps", [normal(3, 2, 1, 1), torch.zeros(3, 2, 4, 4)])
    def test_there_is_none_where_nothing_varies(self, maps):
        assert measure_spectrum(maps) is None


class TestEquivariance:
    def test_an_encoder_that_averages_turns_with_the_image(self):
        images = draw_shapes(20, seed=0).images
        codec = codec_of(lambda x: F.avg_pool2d(x, 4), None)
        assert turn_error(codec, images, codec.encode(to_model(images))) == pytest.approx(0, abs=1e-9)

    def test_an_encoder_that_mixes_all_pixels_does_not(self):
        """Latents of independent white noise: a turned one has nothing to do with the one expected, so 2."""
        images = torch.randint(0, 256, (200, 1, 8, 8), dtype=torch.uint8)
        mix = normal(64, 64)
        codec = codec_of(lambda x: (x.flatten(1) @ mix).view(-1, 1, 8, 8), None)
        assert turn_error(codec, images, codec.encode(to_model(images))) == pytest.approx(2, abs=0.1)

    def test_a_collapsed_encoder_is_not_measured_in_rounding_noise(self):
        images = draw_shapes(20, seed=0).images
        codec = codec_of(lambda x: normal(1, 1, 4, 4) + 1e-3 * F.avg_pool2d(x, 8), None)
        assert turn_error(codec, images, codec.encode(to_model(images))) is None

    def test_half_scale_of_an_autoencoder_that_keeps_the_image(self):
        images = draw_shapes(10, seed=0).images
        half = measure_half_scale(codec_of(None, lambda z: z), images, to_model(images), SPEC)
        assert vars(half) == pytest.approx({"mse": 0, "floor_mse": 0}, abs=1e-12)

    def test_half_scale_of_a_decoder_that_adds_a_constant(self):
        images = torch.full((4, 1, 32, 32), 100, dtype=torch.uint8)

        def decode(z):
            return z + (0.1 if z.shape[-1] == 32 else 0.2)

        half = measure_half_scale(codec_of(None, decode), images, to_model(images), SPEC)
        assert vars(half) == pytest.approx({"mse": 0.04, "floor_mse": 0.01}, rel=1e-3)

    def test_half_scale_is_scored_without_the_padding(self):
        images = draw_shapes(4, seed=0).images

        def decode(z):
            padded = torch.full_like(z, 0.9)
            low, side = z.shape[-1] // 16, z.shape[-1] * 28 // 32
            padded[..., low : low + side, low : low + side] = z[..., low : low + side, low : low + side]
            return padded

        assert measure_half_scale(codec_of(None, decode), images, to_model(images), SPEC).mse == pytest.approx(0)

    @pytest.mark.parametrize("side", [1, 3])
    def test_an_odd_side_has_no_half(self, side):
        assert measure_half_scale(codec_of(None, None), torch.zeros(2, 1, 8, 8), normal(2, 4, side, side), SPEC) is None


class TestPaths:
    def test_a_linear_decoder_has_straight_even_paths_and_the_stretch_of_its_matrix(self):
        matrix, a, b = normal(16, 100), normal(6, 1, 4, 4, seed=1), normal(6, 1, 4, 4, seed=2)

        def decode(z):
            return (z.flatten(1) @ matrix).view(-1, 1, 10, 10)

        over_chord, over_mean = path_lengths(decode, a, b)
        assert over_chord.tolist() == pytest.approx([1] * 6, rel=1e-4)
        assert over_mean.tolist() == pytest.approx([1] * 6, rel=1e-4)
        directions = (b - a).flatten(1)
        expected = (directions @ matrix).norm(dim=1) / directions.norm(dim=1)
        assert local_stretch(decode, a, b - a).tolist() == pytest.approx(expected.tolist(), rel=1e-4)

    def test_a_decoder_that_jumps_takes_one_step(self):
        decode = torch.sign
        over_chord, over_mean = path_lengths(decode, torch.full((1, 1, 2, 2), -1.01), torch.ones(1, 1, 2, 2))
        assert over_chord.item() == pytest.approx(1)
        assert over_mean.item() == pytest.approx(NUM_STEPS)

    def test_a_detour_is_longer_than_its_chord(self):
        """Half a circle: pi / 2 times its diameter, less what 16 straight steps cut off."""

        def decode(z):
            angle = torch.pi * z
            return torch.cat([angle.cos(), angle.sin()], 1)

        over_chord, over_mean = path_lengths(decode, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
        assert over_chord.item() == pytest.approx(16 * np.sin(np.pi / 32), rel=1e-5)
        assert over_mean.item() == pytest.approx(1, rel=1e-4)

    def test_stretch_of_a_real_decoder_is_its_finite_difference(self, tiny_vae):
        codec, z, u = LatentCodec(tiny_vae), normal(3, 4, 8, 8), normal(3, 4, 8, 8, seed=1)
        unit = u / u.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        step = 1e-2
        differences = codec.decode(z + step * unit) - codec.decode(z - step * unit)
        expected = differences.flatten(1).norm(dim=1) / (2 * step)
        assert local_stretch(codec.decode_with_gradient, z, u).tolist() == pytest.approx(expected.tolist(), rel=1e-2)

    def test_of_a_decoder_whose_stretch_grows_with_the_latent(self):
        """z^2 / 2 in every one of 784 pixels: from 0 to b, of one value, the steps grow as 1, 3, 5, ... and the stretch
        at a point z is 28 |z|."""
        ends = torch.tensor([0.5, 1.0, 1.4]).view(-1, 1, 1, 1)
        codec = codec_of(None, lambda z: (z.square() / 2).expand(-1, 1, 32, 32))
        paths = measure_paths(codec, torch.zeros_like(ends), ends, SPEC)
        assert paths.length_over_chord == pytest.approx(1, rel=1e-5)
        assert paths.largest_step_over_mean == pytest.approx((2 * NUM_STEPS - 1) / NUM_STEPS, rel=1e-4)
        points = torch.rand(3, generator=torch.Generator().manual_seed(0)) * ends.flatten()
        assert paths.stretch == pytest.approx(float(28 * points.mean()), rel=1e-5)
        assert paths.stretch_variation == pytest.approx(float(points.std() / points.mean()), rel=1e-5)

    def test_paths_of_a_real_autoencoder(self, tiny_vae):
        paths = measure_paths(LatentCodec(tiny_vae), normal(4, 4, 8, 8), normal(4, 4, 8, 8, seed=1), SPEC)
        assert paths.length_over_chord >= 1
        assert 1 <= paths.largest_step_over_mean <= NUM_STEPS
        assert paths.stretch > 0

    def test_pairs_that_are_equal_are_left_out(self, tiny_vae):
        a, b = normal(5, 4, 8, 8), normal(5, 4, 8, 8, seed=1)
        twice = torch.cat([a, a[:2]]), torch.cat([b, a[:2]])
        assert measure_paths(LatentCodec(tiny_vae), *twice, SPEC).stretch_variation > 0
        assert measure_paths(LatentCodec(tiny_vae), a, a, SPEC) is None

    def test_slerp_keeps_the_length_and_lerp_does_not(self):
        a, b = torch.tensor([[1.0, 0]]).view(1, 2, 1, 1), torch.tensor([[0.0, 1]]).view(1, 2, 1, 1)
        assert slerp(a, b, 0.5).flatten().tolist() == pytest.approx([0.5**0.5] * 2)
        assert slerp(a, b, 1 / 3).flatten().tolist() == pytest.approx([np.cos(np.pi / 6), np.sin(np.pi / 6)])
        assert lerp(a, b, 0.5).flatten().tolist() == [0.5, 0.5]

    @pytest.mark.parametrize("sign", [1, -1])
    def test_slerp_on_one_line_is_straight(self, sign):
        a = normal(2, 1, 2, 2)
        assert torch.allclose(slerp(a, sign * a, 0.25), lerp(a, sign * a, 0.25))


def test_images_at_side_are_averages():
    images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    expected = torch.tensor([[2.5, 4.5], [10.5, 12.5]]) / 127.5 - 1
    assert torch.allclose(images_at_side(images, 2)[0, 0], expected)


def test_floors_are_those_of_as_many_real_images():
    torch.manual_seed(0)
    sets = [draw_shapes(count, seed) for seed, count in enumerate((100, 150, 120))]
    reference = Reference(SPEC, FeatureNet(1, 10, widths=(8, 16)).eval(), *sets, num_images=100)
    few, many, more_than_there_are = (reference.context(count) for count in (70, 150, 1000))
    assert (few["num_real_images"], many["num_real_images"]) == (70, 150)
    assert few["fd_floor_percent"] != many["fd_floor_percent"]
    assert more_than_there_are == many
    real = reference.features(crop(sets[1].images, SPEC))
    assert many["fd_floor_percent"] == feature_fd_percent(real, reference.test_features)
    assert many["coverage_of_real"] == measure_variety(real, reference.test_features).coverage


def test_flat_figures_are_the_finite_numbers_by_name():
    evaluation = {
        "reconstruction": {"psnr_db": 30.0, "values": 64, "pca_psnr_db": None},
        "continuity": None,
        "generation": {"sampler": "dpm++", "seeds": [0], "fd_percent": float("nan"), "coverage": 0.9},
        "conditions": {"threads": 2},
    }
    assert flat_measures(evaluation) == {"psnr_db": 30.0, "values": 64, "coverage": 0.9}


def test_mean_and_spread_over_seeds():
    summary = mean_and_spread([{"a": 1.0, "b": None}, {"a": 4.0, "b": None}])
    assert summary == {"a": 2.5, "a_spread": 3.0, "b": None, "b_spread": None}
