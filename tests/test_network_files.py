"""Networks from folders: what a config builds is compared with the weights before memory is taken."""

import json
import os
import shutil

import pytest
import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from folder_edits import edit_json
from helpers import same_weights
from safetensors.torch import load_file, save_file

from ldm_explorer import network_files
from ldm_explorer.checkpoints import save_model
from ldm_explorer.files import CheckpointError
from ldm_explorer.network_files import WEIGHTS, load_model


@pytest.fixture
def folder(ldm_folder, tmp_path):
    return shutil.copytree(ldm_folder, tmp_path / "run")


@pytest.mark.parametrize("widths", [[32, 64], [512, 1024]])
def test_a_config_of_another_network_is_refused_before_a_weight_is_read(folder, monkeypatch, widths):
    monkeypatch.setattr(network_files, "_in_fp32", lambda *_: pytest.fail("read"))
    edit_json(folder / "unet" / "config.json", block_out_channels=widths)
    with pytest.raises(CheckpointError, match=r"unet cannot be loaded as UNet2DModel: \d+ tensors do not fit it"):
        load_model(UNet2DModel, folder, "unet")


def test_diffusers_loads_the_same(folder):
    ours, theirs = load_model(UNet2DModel, folder, "unet"), UNet2DModel.from_pretrained(folder / "unet")
    assert same_weights(ours.state_dict(), theirs.state_dict())
    ours_says, theirs_says = (json.loads(model.to_json_string()) for model in (ours, theirs))
    theirs_says.pop("_name_or_path")
    assert ours_says == theirs_says
    z_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 10])
    with torch.no_grad():
        assert torch.equal(ours(z_t, 500, labels).sample, theirs.eval()(z_t, 500, labels).sample)


def test_no_place_of_a_machine_is_saved_with_a_network(folder, tmp_path):
    edit_json(folder / "unet" / "config.json", _name_or_path="/home/somebody/unet")
    save_model(load_model(UNet2DModel, folder, "unet"), tmp_path / "saved" / "unet")
    content = (tmp_path / "saved" / "unet" / "config.json").read_text()
    assert "somebody" not in content
    assert str(tmp_path) not in content


def test_attention_under_its_names_of_old_is_found(folder, tiny_unet):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(folder / "unet" / WEIGHTS)
    for now, then in old.items():
        tensors = {name.replace(f".{now}.", f".{then}."): tensor for name, tensor in tensors.items()}
    assert any(".proj_attn." in name for name in tensors)
    save_file(tensors, folder / "unet" / WEIGHTS, {"format": "pt"})
    assert same_weights(load_model(UNet2DModel, folder, "unet").state_dict(), tiny_unet.state_dict())


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_names_of_wrapped_networks_are_found(folder, tiny_unet, prefix):
    path = folder / "unet" / WEIGHTS
    save_file({f"{prefix}{name}": tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    assert same_weights(load_model(UNet2DModel, folder, "unet").state_dict(), tiny_unet.state_dict())


def test_a_tensor_that_is_there_twice_is_no_guess(folder):
    path = folder / "unet" / WEIGHTS
    tensors = load_file(path)
    save_file(tensors | {"module.conv_in.bias": tensors["conv_in.bias"] + 1}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 tensors are there twice, conv_in\.bias among them"):
        load_model(UNet2DModel, folder, "unet")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_fractions_are_refused(folder, dtype):
    path = folder / "unet" / WEIGHTS
    tensors = load_file(path)
    save_file(tensors | {"conv_in.bias": tensors["conv_in.bias"].to(dtype)}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"conv_in.bias is of type {dtype}: save weights as floating-point"):
        load_model(UNet2DModel, folder, "unet")


def test_weights_stay_whatever_becomes_of_their_file(folder, tiny_unet):
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "unet" / WEIGHTS).items()}
    save_file(tensors, folder / "unet" / WEIGHTS, {"format": "pt"})
    loaded = load_model(UNet2DModel, folder, "unet")
    os.truncate(folder / "unet" / WEIGHTS, 0)
    assert same_weights(loaded.state_dict(), tiny_unet.state_dict())


def test_other_files_beside_the_weights_are_left_alone(folder, tiny_unet):
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"garbage")
    assert same_weights(load_model(UNet2DModel, folder, "unet").state_dict(), tiny_unet.state_dict())


def test_an_index_leads_nowhere_else(folder):
    outside = shutil.move(folder / "unet" / WEIGHTS, folder.parent / WEIGHTS)
    index = {"weight_map": dict.fromkeys(load_file(outside), f"../../{WEIGHTS}")}
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="unet cannot be loaded as UNet2DModel"):
        load_model(UNet2DModel, folder, "unet")


@pytest.mark.parametrize("length", [4_000_001, 2**40, 2**64 - 1])
def test_a_header_that_is_too_long_is_not_read(folder, length):
    path = folder / "unet" / WEIGHTS
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        load_model(UNet2DModel, folder, "unet")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"norm_eps": "small"}, "norm_eps is 'small', it should be a valid number"),
        ({"attention_head_dim": -32}, "attention_head_dim is -32, it should be greater than or equal to 1"),
        ({"block_out_channels": []}, "block_out_channels is []"),
        ({"layers_per_block": True}, "layers_per_block is True, it should be a valid integer"),
        ({"act_fn": "text"}, "unet cannot be loaded as UNet2DModel: "),
        ({"down_block_types": ["KDownBlock2D", "KDownBlock2D"]}, "unet cannot be loaded as UNet2DModel: "),
    ],
)
def test_a_setting_that_would_fail_later_is_refused_now(folder, changes, said):
    edit_json(folder / "unet" / "config.json", **changes)
    with pytest.raises(CheckpointError) as refusal:
        load_model(UNet2DModel, folder, "unet")
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation_fn": "text"}, "activation_fn is 'text', it should be 'gelu', 'gelu-approximate'"),
        # a billion values in the waves by which it tells patches apart, which no file holds
        ({"sample_size": 1024, "patch_size": 1, "num_attention_heads": 32}, "and 500,000,000 are read at most"),
    ],
)
def test_a_transformer_that_would_fail_later_is_refused_now(transformer_folder, tmp_path, changes, said):
    folder = shutil.copytree(transformer_folder, tmp_path / "run")
    edit_json(folder / "transformer" / "config.json", **changes)
    with pytest.raises(CheckpointError) as refusal:
        load_model(DiTTransformer2DModel, folder, "transformer")
    assert said in str(refusal.value)
