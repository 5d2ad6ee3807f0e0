import copy
import hashlib
import itertools
import json
import pickle
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from foreign_files import plant, unchanged
from helpers import build_seeded, same_weights
from safetensors.torch import load_file, save_file

from ldm_explorer import checkpoints, run_folder
from ldm_explorer.atomic import write_json
from ldm_explorer.checkpoints import (
    CheckpointError,
    load_pipeline,
    load_vae,
    read_checkpoint,
    read_json,
    save_pipeline,
    save_vae,
)
from ldm_explorer.discovery import discover
from ldm_explorer.models import UNetConfig, VAEConfig
from ldm_explorer.network_files import weights_sha256
from ldm_explorer.run_files import update_metrics
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import CODE_FILE
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.schedules import make_schedule

WEIGHTS = "diffusion_pytorch_model.safetensors"


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_json_is_written_whole_and_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None, "x"]})
    assert read_json(tmp_path / "a.json") == {"a": [1, None, "x"]}
    assert file_names(tmp_path) == ["a.json"]
    assert read_json(tmp_path / "none.json") == {}
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert read_json(tmp_path / "a.json") == {"a": [1, None, "x"]}


def test_updating_one_section_of_the_metrics_keeps_the_others(tmp_path):
    update_metrics(tmp_path, "training", {"cpu_seconds": 5})
    update_metrics(tmp_path, "evaluation", {"psnr_db": 30.0, "fd": 1.0})
    update_metrics(tmp_path, "evaluation", {"psnr_db": 31.0})
    assert read_json(tmp_path / "metrics.json") == {"training": {"cpu_seconds": 5}, "evaluation": {"psnr_db": 31.0}}


def test_an_autoencoder_survives_saving_with_its_statistics(tiny_vae, vae_folder):
    loaded = load_vae(vae_folder)
    assert same_weights(loaded.state_dict(), tiny_vae.state_dict())
    assert loaded.config.latents_mean == tiny_vae.config.latents_mean
    assert loaded.config.latents_std == tiny_vae.config.latents_std
    assert not loaded.training
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_saving_rounds_to_fp16_once_and_leaves_the_model_alone(tmp_path):
    vae = VAEConfig(widths=(16,)).build()
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    save_vae(tmp_path / "a", vae)
    assert same_weights(vae.state_dict(), before)
    once = load_vae(tmp_path / "a")
    assert same_weights(once.state_dict(), {name: tensor.half().float() for name, tensor in before.items()})
    save_vae(tmp_path / "b", once)
    assert same_weights(load_vae(tmp_path / "b").state_dict(), once.state_dict())


def test_the_autoencoder_of_a_pipeline_folder_loads_alone(tiny_vae, ldm_folder):
    assert same_weights(load_vae(ldm_folder).state_dict(), tiny_vae.state_dict())


def test_weights_that_are_cut_into_shards_load_as_one(tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_SHARD_SIZE", "100KB")
    save_pipeline(tmp_path, tiny_pipeline.vae, tiny_pipeline.unet, tiny_pipeline.scheduler)
    for part in ("vae", "unet"):
        assert len(list((tmp_path / part).glob("*.safetensors"))) > 1
        assert len(list((tmp_path / part).glob("*.index.json"))) == 1
    loaded = load_pipeline(read_checkpoint(tmp_path).folder)
    assert same_weights(loaded.unet.state_dict(), tiny_pipeline.unet.state_dict())
    assert same_weights(loaded.vae.state_dict(), tiny_pipeline.vae.state_dict())


def test_a_lost_shard_is_told(tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_SHARD_SIZE", "100KB")
    save_pipeline(tmp_path, tiny_pipeline.vae, tiny_pipeline.unet, tiny_pipeline.scheduler)
    next((tmp_path / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match="unet"):
        load_pipeline(tmp_path)


def test_a_folder_half_overwritten_does_not_count_as_whole(tiny_pipeline, ldm_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(ldm_folder, tmp_path / "run")

    def disk_full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(tiny_pipeline.scheduler, "save_pretrained", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_pipeline(folder, tiny_pipeline.vae, tiny_pipeline.unet, tiny_pipeline.scheduler)
    with pytest.raises(CheckpointError):
        read_checkpoint(folder)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kind", ["vae", "ldm"])
def test_a_kill_at_any_moment_of_an_export_leaves_the_old_or_the_new_or_none(
    tiny_pipeline, tmp_path, monkeypatch, kind
):
    """Never a mix of both, and none of somebody else's files fewer; the next export makes it whole."""
    old_vae, old_unet = (copy.deepcopy(network) for network in (tiny_pipeline.vae, tiny_pipeline.unet))
    for network in (old_vae, old_unet):
        next(network.parameters()).data.fill_(1)

    def save(folder: Path, vae, unet) -> None:
        if kind == "vae":
            save_vae(folder, vae)
        else:
            save_pipeline(folder, vae, unet, tiny_pipeline.scheduler)

    def read(folder: Path) -> list[bool] | None:
        """Whether each network is the new one; None for a folder that is not whole."""
        try:
            assert read_checkpoint(folder).kind == kind
        except CheckpointError:
            return None
        parts = {"vae": tiny_pipeline.vae} | ({"unet": tiny_pipeline.unet} if kind == "ldm" else {})
        loaded = {part: load_file(folder / part / WEIGHTS) for part in parts}
        halves = {part: copy.deepcopy(network).half().state_dict() for part, network in parts.items()}
        return [same_weights(loaded[part], halves[part]) for part in parts]

    moments, put, remove = iter(()), run_folder.put, RunFolder.remove

    def may_be_killed(action, *arguments):
        if next(moments, 0):
            raise Killed
        return action(*arguments)

    monkeypatch.setattr(run_folder, "put", lambda *arguments: may_be_killed(put, *arguments))
    monkeypatch.setattr(RunFolder, "remove", lambda *arguments: may_be_killed(remove, *arguments))
    seen = []
    for moment in itertools.count():
        folder = tmp_path / f"{moment}"
        save(folder, old_vae, old_unet)
        planted = plant(folder, tmp_path / f"elsewhere {moment}")
        moments = iter([0] * moment + [1])
        with suppress(Killed):
            save(folder, tiny_pipeline.vae, tiny_pipeline.unet)
        seen.append(read(folder))
        if list(moments):  # the export was done before
            break
        moments = iter(())
        save(folder, tiny_pipeline.vae, tiny_pipeline.unet)
        assert all(read(folder))
        assert unchanged(folder, planted)
    assert None in seen
    assert [state for state in seen if state is not None and len(set(state)) > 1] == []
    assert all(seen[-1])


def test_no_file_of_a_checkpoint_of_default_size_reaches_10_mb(tiny_vae, tmp_path):
    unet = build_seeded(UNetConfig(8, 4, 10, widths=(128, 192)))
    assert sum(parameter.numel() for parameter in unet.parameters()) * 2 > 10e6
    save_pipeline(tmp_path, tiny_vae, unet, make_scheduler(make_schedule("cosine"), "v_prediction"))
    assert max(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 10e6
    assert same_weights(load_pipeline(tmp_path).unet.state_dict(), unet.state_dict())


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def drop(name: str):
    def change(folder: Path) -> None:
        (folder / name).unlink()

    return change


def overwrite(name: str, content: str):
    def change(folder: Path) -> None:
        (folder / name).write_text(content)

    return change


def leave_only_pickles(folder: Path) -> None:
    torch.save(load_file(folder / "unet" / WEIGHTS), folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / "unet" / WEIGHTS).unlink()


def leave_what_training_writes_first(folder: Path) -> None:
    empty(folder)
    write_json(folder / "train_config.json", {"dataset": "fashion_mnist"})
    (folder / "state-000000500").mkdir()


BROKEN = {
    "empty": empty,
    "still training": leave_what_training_writes_first,
    "no model_index": drop("model_index.json"),
    "no vae config": drop("vae/config.json"),
    "no vae weights": drop(f"vae/{WEIGHTS}"),
    "no unet config": drop("unet/config.json"),
    "no unet weights": drop(f"unet/{WEIGHTS}"),
    "no scheduler config": drop("scheduler/scheduler_config.json"),
    "vae config no JSON": overwrite("vae/config.json", "{"),
    "unet config no JSON": overwrite("unet/config.json", "not JSON"),
    "scheduler config no JSON": overwrite("scheduler/scheduler_config.json", ""),
    "train_config no JSON": overwrite("train_config.json", '{"dataset": '),
    "metrics no JSON": overwrite("metrics.json", "]"),
    "train_config no object": overwrite("train_config.json", "[1, 2]"),
    "metrics no object": overwrite("metrics.json", "3"),
    "only pickled weights": leave_only_pickles,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_are_named_with_a_reason_and_the_good_ones_listed(ldm_folder, vae_folder, tmp_path, name):
    dataset = tmp_path / "fashion_mnist"
    shutil.copytree(ldm_folder, dataset / "good-ldm")
    shutil.copytree(vae_folder, dataset / "good-vae")
    broken = shutil.copytree(ldm_folder, dataset / "broken")
    BROKEN[name](broken)
    good, skipped = discover(tmp_path)
    assert [(checkpoint.name, checkpoint.kind) for checkpoint in good] == [("good-ldm", "ldm"), ("good-vae", "vae")]
    assert [skip.folder for skip in skipped] == [broken]
    assert str(broken) in skipped[0].reason
    assert "\n" not in skipped[0].reason


@pytest.mark.parametrize("part", ["vae", "unet"])
@pytest.mark.parametrize("damage", ["garbage", "cut", "of another network", "half the tensors"])
def test_weights_that_do_not_fit_are_refused_with_the_folder(ldm_folder, tmp_path, part, damage):
    folder = shutil.copytree(ldm_folder, tmp_path / "broken")
    weights = folder / part / WEIGHTS
    if damage == "garbage":
        weights.write_bytes(b"garbage")
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "of another network":
        shutil.copy(folder / {"vae": "unet", "unet": "vae"}[part] / WEIGHTS, weights)
    else:
        tensors = load_file(weights)
        save_file({name: tensors[name] for name in list(tensors)[::2]}, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"{folder}/{part}"):
        load_pipeline(folder)


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("beside_safetensors", [False, True])
def test_pickled_weights_are_never_opened(vae_folder, tmp_path, beside_safetensors):
    folder = shutil.copytree(vae_folder, tmp_path / "run")
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    if beside_safetensors:
        load_vae(folder)
    else:
        (folder / "vae" / WEIGHTS).unlink()
        with pytest.raises(CheckpointError):
            load_vae(folder)
    assert not (tmp_path / "exploded").exists()


def test_a_folder_that_is_no_checkpoint_is_refused_by_name(tmp_path):
    for load in (load_vae, load_pipeline, read_checkpoint):
        with pytest.raises(CheckpointError, match="nowhere"):
            load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="nowhere"):
        discover(tmp_path / "nowhere")


def test_a_checkpoint_tells_its_dataset_metrics_and_log(ldm_folder, vae_folder, tmp_path):
    folder = shutil.copytree(ldm_folder, tmp_path / "shapes" / "run")
    assert read_checkpoint(folder).dataset == "shapes"
    write_json(folder / "train_config.json", {"dataset": "fashion_mnist", "seed": 3})
    update_metrics(folder, "evaluation", {"fd": 1.0})
    (folder / "train_log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    checkpoint = read_checkpoint(folder)
    assert checkpoint.dataset == "fashion_mnist"
    assert checkpoint.config["seed"] == 3
    assert checkpoint.metrics == {"evaluation": {"fd": 1.0}}
    assert checkpoint.log() == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    assert read_checkpoint(vae_folder).log() == []


def test_a_checkpoint_loads_its_weights_once(ldm_folder, vae_folder):
    ldm, vae = read_checkpoint(ldm_folder), read_checkpoint(vae_folder)
    assert ldm.pipeline is ldm.pipeline
    assert ldm.vae is ldm.pipeline.vae
    assert vae.vae is vae.vae
    with pytest.raises(CheckpointError, match="is an autoencoder alone: give one with a denoiser"):
        _ = vae.pipeline


@pytest.mark.parametrize("depth", [0, 1, 2], ids=["the run", "the dataset", "the root"])
def test_checkpoints_are_found_from_every_level(ldm_folder, tmp_path, depth):
    shutil.copytree(ldm_folder, tmp_path / "fashion_mnist" / "run")
    root = [tmp_path / "fashion_mnist" / "run", tmp_path / "fashion_mnist", tmp_path][depth]
    good, skipped = discover(root)
    assert ([checkpoint.name for checkpoint in good], skipped) == (["run"], [])


@pytest.mark.parametrize("name", ["vae", "unet", "features"])
def test_a_run_may_be_called_like_a_part(vae_folder, tmp_path, name):
    shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / name)
    shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / "other")
    good, _ = discover(tmp_path)
    assert sorted(checkpoint.name for checkpoint in good) == sorted([name, "other"])


def test_the_classifier_beside_the_checkpoints_does_not_hide_them(vae_folder, tmp_path):
    """train/features.py writes <dataset>/features/features."""
    shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / "run")
    shutil.copytree(vae_folder / "vae", tmp_path / "fashion_mnist" / "features" / "features")
    good, _ = discover(tmp_path)
    assert [checkpoint.name for checkpoint in good] == ["run"]


def test_hidden_folders_are_no_checkpoints(vae_folder, tmp_path):
    shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / "run")
    shutil.copytree(vae_folder, tmp_path / "fashion_mnist" / ".run.abc123")
    shutil.copytree(vae_folder, tmp_path / ".cache" / "run")
    good, skipped = discover(tmp_path)
    assert ([checkpoint.name for checkpoint in good], skipped) == (["run"], [])


def test_everything_beside_the_weights_the_film_and_the_code_for_diffusers_is_json(ldm_folder):
    suffixes = {path.suffix for path in ldm_folder.rglob("*") if path.is_file() and path != ldm_folder / CODE_FILE}
    assert suffixes == {".json", ".jsonl", ".safetensors", ".webp"}
    for path in ldm_folder.rglob("*.json"):
        json.loads(path.read_text())


def test_the_digest_of_weights_is_that_of_their_files_one_after_the_other(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "model-00002-of-00002.safetensors")
    (tmp_path / "config.json").write_text("{}")
    digest = weights_sha256(tmp_path)
    content = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("*.safetensors")))
    assert digest == hashlib.sha256(content).hexdigest()
    save_file({"b": torch.ones(3)}, tmp_path / "model-00002-of-00002.safetensors")
    assert weights_sha256(tmp_path) != digest


def test_a_checkpoint_gives_what_its_pipeline_works_with(ldm_folder, vae_folder):
    checkpoint, autoencoder = read_checkpoint(str(ldm_folder)), read_checkpoint(vae_folder)
    pipeline, pixels = checkpoint.pipeline, torch.zeros(1, 1, 32, 32)
    assert checkpoint.denoiser.network is pipeline.unet
    assert torch.equal(checkpoint.schedule.alpha_bars, pipeline.scheduler.alphas_cumprod)
    assert torch.equal(checkpoint.codec.encode(pixels), pipeline.codec.encode(pixels))
    assert torch.equal(autoencoder.codec.encode(pixels), pipeline.codec.encode(pixels))
    with pytest.raises(CheckpointError, match="tiny-vae is an autoencoder alone: give one with a denoiser"):
        _ = autoencoder.schedule


def test_a_shipped_checkpoint_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_checkpoint("checkpoints/fashion_mnist/vae-8x8x4").kind == "vae"
    with pytest.raises(CheckpointError, match="nowhere is no folder"):
        read_checkpoint("checkpoints/fashion_mnist/nowhere")
