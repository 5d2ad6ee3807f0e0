"""Encoding once per autoencoder, into a cache that is never stale and never large, and the scale of some latents."""

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from ldm_explorer.checkpoints import load_vae
from ldm_explorer.latents import LatentCodec, identity_statistics, image_moments, raw_posterior, scale_of
from ldm_explorer.training import encoding, posterior_files
from ldm_explorer.training.encoding import encode_all, measure_scale

SCALE_IMAGES, IMAGES = 128, 200


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of its own, which keeps the posteriors of few images, too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(posterior_files, "MIN_IMAGES", 8)
    monkeypatch.setattr(encoding, "SCALE_IMAGES", SCALE_IMAGES)
    return tmp_path / "ldm-explorer" / "latents"


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many images went through the encoder, one number for each time."""
    counts: list[int] = []

    def counting(vae: AutoencoderKL, pixels: torch.Tensor):
        counts.append(len(pixels))
        return raw_posterior(vae, pixels)

    monkeypatch.setattr(encoding, "raw_posterior", counting)
    return counts


def same(one, other) -> bool:
    return one.mean.equal(other.mean) and one.std.equal(other.std)


def test_a_second_training_reads_what_the_first_one_encoded(tiny_vae, shapes, encoded, folder):
    first = encode_all(LatentCodec(tiny_vae), shapes.images)
    assert sum(encoded) == IMAGES
    assert len(list(folder.iterdir())) == 2
    assert same(encode_all(LatentCodec(tiny_vae), shapes.images), first)
    assert same(encode_all(LatentCodec(tiny_vae), shapes.images, memory_map="always"), first)
    assert sum(encoded) == IMAGES


def test_what_the_autoencoders_training_encoded_for_its_scale_is_not_encoded_again(
    tiny_vae, vae_folder, shapes, encoded
):
    scale = measure_scale(tiny_vae, shapes.images)
    assert scale.num_images == sum(encoded) == SCALE_IMAGES
    with_it = encode_all(LatentCodec(load_vae(vae_folder)), shapes.images)
    assert sum(encoded) == IMAGES
    vae = copy.deepcopy(tiny_vae)
    vae.register_to_config(**identity_statistics(vae))
    raw = encode_all(LatentCodec(vae), shapes.images)
    assert sum(encoded) == IMAGES, "how they are normalised is no reason to encode them again"
    assert same(LatentCodec(tiny_vae).normalise(raw), with_it)


def test_the_same_is_encoded_whether_a_part_was_kept_or_not(tiny_vae, shapes, folder):
    measure_scale(tiny_vae, shapes.images)
    with_a_part = encode_all(LatentCodec(tiny_vae), shapes.images)
    for path in folder.iterdir():
        path.unlink()
    assert same(encode_all(LatentCodec(tiny_vae), shapes.images), with_a_part)


def changed_weight(vae, images):
    vae = copy.deepcopy(vae)
    with torch.no_grad():
        next(vae.encoder.parameters())[0] += 1e-3
    return vae, images, False


def changed_pixel(vae, images):
    images = images.clone()
    images[0, 0, 0, 0] += 1
    images[1:3] = images[1:3].flip(0)  # images in another order, too
    return vae, images, False


def changed_config(vae, images):
    other = AutoencoderKL(**{name: value for name, value in vae.config.items() if name[0] != "_"} | {"act_fn": "relu"})
    other.load_state_dict(vae.state_dict())
    return other.eval(), images, False


@pytest.mark.parametrize("changed", [changed_weight, changed_pixel, changed_config, lambda vae, x: (vae, x, True)])
def test_nothing_stale_is_ever_read(tiny_vae, shapes, encoded, changed):
    images = shapes.images[:64]
    before = encode_all(LatentCodec(tiny_vae), images)
    vae, images, mirrored = changed(tiny_vae, images)
    del encoded[:]
    after = encode_all(LatentCodec(vae), images, mirrored=mirrored)
    assert encoded == [64]
    assert not before.mean.equal(after.mean[-64:])
    expected = raw_posterior(vae, encoding.to_model(images.flip(-1) if mirrored else images))
    assert after.mean[-64:].equal(LatentCodec(vae).normalise(expected).mean)


def test_a_file_that_is_not_whole_is_not_read(tiny_vae, shapes, encoded, folder):
    images = shapes.images[:64]
    first = encode_all(LatentCodec(tiny_vae), images)
    (path,) = folder.iterdir()
    for broken in (path.read_bytes()[:-4], b"", b"no array"):
        path.write_bytes(broken)
        assert same(encode_all(LatentCodec(tiny_vae), images), first)
    for other in (np.zeros((64, 2, 4, 8, 8)), np.array(["text"])):
        np.save(path, other)
        assert same(encode_all(LatentCodec(tiny_vae), images), first)
    assert sum(encoded) == 6 * 64


@pytest.mark.parametrize("change", [np.zeros_like, np.flip, lambda latents: latents * np.nan])
def test_a_file_of_other_latents_of_the_same_shape_is_not_read(tiny_vae, shapes, encoded, folder, change):
    images = shapes.images[:64]
    first = encode_all(LatentCodec(tiny_vae), images)
    (path,) = folder.iterdir()
    latents = np.load(path, mmap_mode="r+")
    latents[:] = change(np.array(latents))
    latents.flush()
    assert same(encode_all(LatentCodec(tiny_vae), images), first)
    assert sum(encoded) == 2 * 64


def test_what_a_killed_training_left_half_written_is_deleted_after_a_day(tiny_vae, shapes, folder):
    encode_all(LatentCodec(tiny_vae), shapes.images[:64])
    (path,) = folder.iterdir()
    old, new = path.with_suffix(".killed"), path.with_suffix(".being-written")
    for part in (old, new):
        part.write_bytes(b"half")
    posterior_files.os.utime(old, (0, 0))
    encode_all(LatentCodec(tiny_vae), shapes.images[64:128])
    assert new.exists()
    assert not old.exists()


def test_a_training_that_ends_while_it_encodes_leaves_no_file(tiny_vae, shapes, monkeypatch, folder):
    def stopped(vae, pixels):
        if len(pixels) < 64:
            raise KeyboardInterrupt
        return raw_posterior(vae, pixels)

    monkeypatch.setattr(encoding, "raw_posterior", stopped)
    with pytest.raises(KeyboardInterrupt):
        encode_all(LatentCodec(tiny_vae), shapes.images[:100])
    assert list(folder.iterdir()) == []


def test_the_cache_stays_small(tiny_vae, shapes, encoded, folder, monkeypatch):
    """What was read last is kept longest; what is too large is not kept at all."""
    one, other, third = shapes.images[:64], shapes.images[64:128], shapes.images[128:192]
    codec = LatentCodec(tiny_vae)
    encode_all(codec, one)
    size = next(folder.iterdir()).stat().st_size
    monkeypatch.setattr(posterior_files, "MAX_BYTES", 2 * size)
    encode_all(codec, other)
    for path, age in zip(sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns), (20, 10), strict=True):
        posterior_files.os.utime(path, (age, age))
    encode_all(codec, one)
    encode_all(codec, third)
    assert len(list(folder.iterdir())) == 2
    del encoded[:]
    encode_all(codec, one)
    encode_all(codec, other)
    assert encoded == [64], "the other one was not read since"
    monkeypatch.setattr(posterior_files, "MAX_FILE_BYTES", size // 2)
    monkeypatch.setattr(posterior_files.hashlib, "sha256", lambda *_: pytest.fail("it reads the images for nothing"))
    before = sorted(folder.iterdir())
    encode_all(codec, one)
    assert sorted(folder.iterdir()) == before
    assert encoded == [64, 64]


def test_a_disk_without_room_is_a_warning(tiny_vae, shapes, encoded, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(posterior_files, "new_array_file", full)
    encode_all(LatentCodec(tiny_vae), shapes.images[:64])
    assert encoded == [64]
    assert "No space left on device" in caplog.text


def test_the_scale_of_all_images_has_no_error(tiny_vae, shapes):
    scale = measure_scale(tiny_vae, shapes.images[:SCALE_IMAGES])
    assert (scale.mean_error, scale.std_error) == (0, 0)


def test_the_scale_of_some_images_is_off_by_what_is_said():
    """Over many draws of 50 of 200: the spread of the estimates is the standard error that each of them states."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(200, 1, 4, 4, generator=generator) * (1 + 3 * torch.rand(200, 1, 1, 1, generator=generator))
    latents += torch.randn(200, 1, 1, 1, generator=generator)
    moments = image_moments(encoding.Posterior(latents, torch.full_like(latents, 0.3)))
    whole = scale_of(moments, 200)
    drawn = [scale_of(moments[torch.randperm(200, generator=generator)[:50]], 200) for _ in range(400)]
    for name in ("mean", "std"):
        off = torch.tensor([(getattr(one, name)[0] - getattr(whole, name)[0]) / whole.std[0] for one in drawn])
        said = torch.tensor([getattr(one, f"{name}_error") for one in drawn])
        assert float(off.square().mean().sqrt() / said.mean()) == pytest.approx(1, abs=0.15)


def test_the_scale_of_mirrored_images_is_that_of_both(tiny_vae, shapes):
    images = shapes.images[:60]
    both = measure_scale(tiny_vae, torch.cat([images, images.flip(-1)]))
    mirrored = measure_scale(tiny_vae, images, mirrored=True)
    assert mirrored.mean == pytest.approx(both.mean, abs=1e-6)
    assert mirrored.std == pytest.approx(both.std, abs=1e-6)
