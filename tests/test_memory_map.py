"""Pictures in a memory map: the same to the bit, written once, and anew when they change."""

from collections import Counter

import numpy as np
import pytest
from helpers import same_weights
from PIL import Image

from ldm_explorer import memory_map
from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.data import find_dataset, load_split
from ldm_explorer.diagnosis.statistics import read_statistics
from ldm_explorer.image_folder import list_folder
from ldm_explorer.pictures import cache as cache_module
from ldm_explorer.pictures.cache import ImageCache
from ldm_explorer.pictures.collection import read_pictures
from ldm_explorer.pictures.listing import DataError
from ldm_explorer.training import train
from ldm_explorer.training.encoding import encode_all
from ldm_explorer.training.tasks.autoencoder import AutoencoderTraining, VAETrainConfig
from ldm_explorer.training.tasks.denoiser import DenoiserTraining, LDMTrainConfig

SHORT = {"max_steps": 4, "batch_size": 4, "threads": 1, "precision": "fp32", "image_side": 32, "layers_per_block": 1}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=["grey", "colour"])
def folder(request, tmp_path):
    """80 pictures in two classes, and one that cannot be read."""
    random = np.random.default_rng(0)
    for number in range(80):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (32, 32) if request.param == "grey" else (32, 32, 3)
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)
    (tmp_path / "pictures" / "a" / "000.png").write_bytes(b"no picture")
    return tmp_path / "pictures"


def test_what_is_read_from_the_map_is_what_is_read_into_memory(folder):
    listing = list_folder(folder)
    in_memory, mapped, again = (read_pictures(listing, 32, how) for how in ("never", "always", "auto"))
    is_grey = Image.open(folder / "b" / "1.png").mode == "L"
    assert in_memory.images.shape == (80, 1 if is_grey else 3, 32, 32)
    for other in (mapped, again):
        assert other.images.equal(in_memory.images)
        assert other.labels.equal(in_memory.labels)
        assert (other.names, other.splits, other.summary) == (in_memory.names, in_memory.splits, in_memory.summary)


def test_a_map_is_written_once_and_anew_when_a_picture_changes(folder, monkeypatch):
    decoded = Counter()
    decode_into = cache_module.decode_into
    monkeypatch.setattr(cache_module, "decode_into", lambda *given: decoded.update(["once"]) or decode_into(*given))
    first = read_pictures(list_folder(folder), 32, "always")
    assert read_pictures(list_folder(folder), 32, "always").images.equal(first.images)
    assert decoded["once"] == 1
    changed = folder / "b" / "1.png"
    before = changed.stat()
    Image.new("RGB", (32, 32), "red").save(changed)
    assert changed.stat() != before
    again = read_pictures(list_folder(folder), 32, "always")
    assert decoded["once"] == 2
    place = again.names.index("b/1.png")
    assert not again.images[place].equal(first.images[place])
    files = sorted(path.suffix for path in ImageCache(list_folder(folder), 32).path.parent.iterdir())
    assert files == [".json", ".lock", ".npy"], "the one of before is gone"


@pytest.mark.parametrize("damage", ["cut", "facts", "other", "gone"])
def test_a_damaged_map_is_written_anew(folder, damage):
    listing = list_folder(folder)
    first, cache = read_pictures(listing, 32, "always").images.clone(), ImageCache(listing, 32)
    facts = cache.path.with_suffix(".json")
    if damage == "cut":
        cache.path.write_bytes(cache.path.read_bytes()[:1000])
    elif damage == "facts":
        facts.write_text('{"format": 1, "stamp": 3')
    elif damage == "other":
        np.save(cache.path, np.zeros((3, 3)))
    else:
        cache.path.unlink()
    assert cache.read() is None
    assert read_pictures(listing, 32, "always").images.equal(first)


def test_a_writing_that_was_killed_leaves_nothing_that_counts(folder, monkeypatch):
    listing = list_folder(folder)
    cache = ImageCache(listing, 32)
    cache.path.parent.mkdir(parents=True)
    cache.path.with_suffix(".part").write_bytes(b"half")
    monkeypatch.setattr(cache_module, "put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        read_pictures(listing, 32, "always")
    assert [path.suffix for path in cache.path.parent.iterdir()] == [".lock"]
    monkeypatch.undo()


def test_a_disk_without_room_is_said_before_anything_is_decoded(folder, monkeypatch):
    monkeypatch.setattr(cache_module, "decode_into", lambda *_: pytest.fail("it decodes"))
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(DataError, match=r"is too large for the memory, .* \(0.0 GB are needed\): make room there"):
        read_pictures(list_folder(folder), 32, "always")


def test_a_map_is_made_where_half_of_the_memory_is_too_little(folder, monkeypatch):
    listing = list_folder(folder)
    needed = len(listing) * 3 * 32 * 32
    monkeypatch.setattr(memory_map, "memory_bytes", lambda: 2 * needed)
    read_pictures(listing, 32)
    assert ImageCache(listing, 32).read() is None
    monkeypatch.setattr(memory_map, "memory_bytes", lambda: 2 * needed - 1)
    read_pictures(listing, 32)
    assert ImageCache(listing, 32).read() is not None


def test_a_split_of_a_map_is_no_copy(folder):
    name = f"folder:{folder}"
    whole = find_dataset(name, 32, "always")
    for split in ("train", "validation", "test"):
        images = load_split(name, split, None, 32, "always").images
        assert images.untyped_storage().data_ptr() == whole.load(None, "train")[0].untyped_storage().data_ptr()


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize("folder", ["colour"], indirect=True)
def test_a_run_that_reads_lazily_is_the_run_in_memory_also_resumed(folder, tmp_path):
    dataset = f"folder:{folder}"
    ends = {}
    for how in ("never", "always"):
        common = SHORT | {"dataset": dataset, "memory_map": how, "flip": True}
        vae = {"widths": (16,), "latent_size": 8, "out": tmp_path / f"vae-{how}"} | common
        steps = train(AutoencoderTraining(VAETrainConfig(**vae)))
        next(steps)
        steps.close()
        other = "always" if how == "never" else "never"  # where pictures lie may change on the way
        list(train(AutoencoderTraining(VAETrainConfig(**vae | {"resume": True, "memory_map": other}))))
        ldm = {"widths": (16, 32), "vae": tmp_path / f"vae-{how}", "out": tmp_path / f"ldm-{how}"} | common
        without = [
            read_statistics(ldm["out"]).memorising is None for _ in train(DenoiserTraining(LDMTrainConfig(**ldm)))
        ]
        assert without == [True] * 4
        assert read_statistics(ldm["out"]).memorising is not None
        ends[how] = [read_checkpoint(tmp_path / f"{kind}-{how}") for kind in ("vae", "ldm")]
    for in_memory, lazy in zip(ends["never"], ends["always"], strict=True):
        assert same_weights(in_memory.vae.state_dict(), lazy.vae.state_dict())
        assert in_memory.vae.config.latents_std == lazy.vae.config.latents_std
    unets = [checkpoint.pipeline.unet.state_dict() for _, checkpoint in ends.values()]
    assert same_weights(*unets)
    statistics = [(tmp_path / f"ldm-{how}" / "latents.safetensors").read_bytes() for how in ends]
    assert statistics[0] == statistics[1]
    assert ends["never"][1].config["flip"] is True


def test_latents_in_a_file_are_those_in_memory_and_mirrored_ones_follow(tiny_pipeline, shapes):
    codec, images = tiny_pipeline.codec, shapes.images[:70]
    in_memory, on_disk = (encode_all(codec, images, mirrored=True, memory_map=how) for how in ("never", "always"))
    assert len(in_memory.mean) == 140
    assert in_memory.mean.equal(on_disk.mean)
    assert in_memory.std.equal(on_disk.std)
    mirrored = encode_all(codec, images.flip(-1))
    assert in_memory.mean[70:].equal(mirrored.mean)
    assert in_memory.mean[:70].equal(encode_all(codec, images).mean)
