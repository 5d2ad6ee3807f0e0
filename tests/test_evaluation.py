import math
from functools import partial

import pytest
import torch
from helpers import draw_shapes

from ldm_explorer.checkpoints import save_model
from ldm_explorer.data import crop, dataset_spec, load_split, to_model
from ldm_explorer.evaluation.classifier import load_further
from ldm_explorer.evaluation.features import FeatureNet, extract_features, feature_fd_percent, predict_classes
from ldm_explorer.evaluation.further_networks import FURTHER_NETWORKS
from ldm_explorer.evaluation.generation import decoded_noise, generate
from ldm_explorer.evaluation.reconstruction import PCA, psnr_db, reconstruct, ssim
from ldm_explorer.evaluation.reference import Reference
from ldm_explorer.latents import BATCH_IMAGES, in_batches


def test_psnr_is_per_image_with_data_range_one():
    image = torch.zeros(2, 1, 28, 28)
    shifted = image.clone()
    shifted[0] += 0.2  # 0.1 after mapping to [0, 1]: 20 dB
    shifted[1] += 0.02
    assert psnr_db(shifted, image).tolist() == pytest.approx([20, 40], abs=1e-3)


def test_ssim_is_one_for_the_same_image_and_falls_with_noise():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 1, 28, 28, generator=generator) * 2 - 1
    assert ssim(images, images).tolist() == pytest.approx([1, 1, 1])
    noisy = (images + 0.3 * torch.randn(images.shape, generator=generator)).clamp(-1, 1)
    assert (ssim(noisy, images) < 0.95).all()


def test_pca_keeps_what_lies_in_its_components_and_is_lossless_from_all_dimensions_on():
    generator = torch.Generator().manual_seed(0)
    images = (torch.randn(400, 3, generator=generator) @ torch.randn(3, 64, generator=generator) * 0.05).view(
        -1, 1, 8, 8
    )
    pca = PCA.fit(images)
    assert torch.allclose(pca.reconstruct(images, 3), images, atol=1e-4)
    assert not torch.allclose(pca.reconstruct(images, 2), images, atol=1e-2)
    assert pca.reconstruct(images, 64) is images


def test_pca_reaches_the_known_figures_on_fashion_mnist(fashion_mnist_dir):
    spec = dataset_spec("fashion_mnist")
    pca = PCA.fit(to_model(crop(load_split("fashion_mnist", "train", fashion_mnist_dir).images, spec)))
    test = to_model(crop(load_split("fashion_mnist", "test", fashion_mnist_dir).images, spec))
    figures = [float(psnr_db(pca.reconstruct(test, dimensions), test).mean()) for dimensions in (64, 128, 256, 512)]
    assert figures == pytest.approx([20.8, 23.2, 26.9, 34.8], abs=0.1)


def test_reconstruct_gives_clamped_images_at_the_original_side(tiny_pipeline, shapes):
    images = reconstruct(tiny_pipeline.codec, shapes.images[:3], dataset_spec("fashion_mnist"))
    assert images.shape == (3, 1, 28, 28)
    assert images.abs().max() <= 1


def test_feature_fd_of_a_shifted_gaussian_is_the_squared_shift_over_the_variance():
    """Between N(m, S) and N(m + d, S) the Frechet distance is |d|^2; the same features shifted have the same S."""
    features = torch.randn(3000, 64, generator=torch.Generator().manual_seed(0))
    shifted = features.clone()
    shifted[:, 0] += 2
    total_variance = float(features.double().var(dim=0).sum())
    assert feature_fd_percent(shifted, features) == pytest.approx(100 * 4 / total_variance, rel=1e-3)
    assert feature_fd_percent(features, features) == pytest.approx(0, abs=1e-3)


def test_feature_fd_has_no_scale():
    generator = torch.Generator().manual_seed(0)
    features, reference = torch.randn(2, 2000, 64, generator=generator)
    features = features * 1.5 + 0.2
    assert feature_fd_percent(10 * features, 10 * reference) == pytest.approx(
        feature_fd_percent(features, reference), rel=1e-3
    )


def test_feature_net_predicts_from_its_64_features():
    torch.manual_seed(0)
    network = FeatureNet(1, 10, widths=(8, 16)).eval()
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    features = extract_features(network, images)
    assert features.shape == (5, 64)
    assert torch.equal(predict_classes(network, features), network(to_model(images)).argmax(1))


@pytest.mark.parametrize("name", FURTHER_NETWORKS)
def test_a_further_network_has_64_features_and_is_read_as_it_was_saved(name, tmp_path):
    torch.manual_seed(0)
    network = FURTHER_NETWORKS[name](1, 10, (16, 32, 16))
    save_model(network, tmp_path / "features")
    read = load_further(name, tmp_path, dataset_spec("fashion_mnist"))
    network = network.half().float().eval()
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    features = extract_features(read, images)
    assert features.shape == (5, 64)
    assert torch.equal(features, extract_features(network, images))
    assert torch.equal(predict_classes(read, features), network(to_model(images)).argmax(1))


def test_distances_are_measured_again_in_the_features_of_each_further_network(shapes):
    torch.manual_seed(0)
    spec, networks = (
        dataset_spec("fashion_mnist"),
        {name: made(1, 10, (16, 16)) for name, made in FURTHER_NETWORKS.items()},
    )
    sets = shapes, draw_shapes(100, seed=1), draw_shapes(120, seed=2)
    reference = Reference(spec, FeatureNet(1, 10, widths=(8, 16)), *sets, num_images=30, further=networks)
    images, test = crop(shapes.images, spec)[:80], crop(sets[2].images, spec)
    measured = reference.samples(images, None, torch.ones(80))
    for name, network in networks.items():
        expected = feature_fd_percent(extract_features(network, images), extract_features(network, test))
        assert measured[f"fd_{name}_percent"] == pytest.approx(expected, rel=1e-5)
        of_real = extract_features(network, crop(sets[1].images[:50], spec))
        floor = feature_fd_percent(of_real, extract_features(network, test))
        assert reference.context(50)[f"fd_{name}_floor_percent"] == pytest.approx(floor, rel=1e-5)
    alone = Reference(spec, FeatureNet(1, 10, widths=(8, 16)), *sets, num_images=30)
    assert alone.samples(images, None, torch.ones(80))["fd_plain_percent"] is None


def test_samples_are_balanced_and_repeat_for_the_same_seed(tiny_pipeline):
    spec = dataset_spec("fashion_mnist")

    def run(seed: int, batch_size: int = BATCH_IMAGES):
        batched = partial(in_batches, batch_size=batch_size)
        return generate(tiny_pipeline, spec, 20, seed, num_steps=2, sampler="ddim", batched=batched)

    samples = run(0, 8)
    assert samples.labels.bincount().tolist() == [2] * 10
    assert samples.images.shape == (20, 1, 28, 28)
    assert samples.latents.shape == (20, *tiny_pipeline.latent_shape)
    assert torch.equal(samples.images, run(0, 8).images)
    assert not torch.equal(samples.images, run(1, 8).images)
    assert (samples.images.int() - run(0, 20).images.int()).abs().max() <= 1


def test_decoded_noise_decodes_standard_normal_latents(tiny_pipeline):
    images = decoded_noise(tiny_pipeline.codec, tiny_pipeline.latent_shape, dataset_spec("fashion_mnist"), 4)
    assert images.shape == (4, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert math.isfinite(images.float().std())


def test_features_are_taken_of_bytes_alone_and_compared_with_features_alone():
    network = FeatureNet(1, 10, (8, 8))
    for images in (torch.zeros(2, 1, 28, 28), torch.zeros(2, 3, 28, 28, dtype=torch.uint8), torch.zeros(2), [1]):
        with pytest.raises(ValueError, match=r"give a tensor \(N, 1, .* uint8"):
            extract_features(network, images)
    features = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    for wrong in (features[:, :9], features[:1], features.log(), features[0]):
        with pytest.raises(ValueError, match="the features are"):
            feature_fd_percent(features, wrong)
    with pytest.raises(ValueError, match="of floats in"):
        PCA.fit(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
