"""What a diagnosis found in a model, beside the same model with the fix, or beside a healthy run."""

import json
import shutil

import pytest
import torch
from diffusers import DDPMScheduler
from folder_edits import edit_json
from folder_faults import FAULTS as FOLDER_FAULTS

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.checks.settings import as_settings
from ldm_explorer.diagnosis.faults import FAULTS, fault_of
from ldm_explorer.diagnosis.remedies import remedy
from ldm_explorer.diagnosis.sampling import Sampling
from ldm_explorer.diagnosis.verdicts import Verdict
from ldm_explorer.explore.faults import Subject
from ldm_explorer.explore.own_fault import HEALTHY, find_own_fault
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.samplers import denoise, final_latents, is_flow, make_scheduler
from ldm_explorer.schedules import FlowSchedule, make_schedule

SCHEDULER, VAE, UNET = "scheduler/scheduler_config.json", "vae/config.json", "unet/config.json"


def verdict(fix: str, evidence: str = "") -> Verdict:
    return Verdict("check", "It is wrong", "suspect", evidence, fix, 3)


@pytest.fixture(scope="module")
def clipped(ldm_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "clipped"
    shutil.copytree(ldm_folder, folder)
    edit_json(folder / SCHEDULER, clip_sample=True)
    return read_checkpoint(folder)


@pytest.fixture(scope="module")
def sampling(ldm_folder) -> Sampling:
    return Sampling.right(read_checkpoint(ldm_folder).pipeline)


def test_the_broken_run_is_the_model_as_it_is_and_the_right_one_has_the_fix(clipped):
    own = find_own_fault(clipped, "clipping", None, seed=1)
    assert own.is_fixed
    assert own.experiment.broken.scheduler.config.clip_sample
    assert not own.experiment.right.scheduler.config.clip_sample
    *_, last = own.steps()
    assert last.right.z0.abs().max() > 1 >= last.broken.z0.abs().max()
    assert last.broken_symptom < last.right_symptom
    assert Subject.of(clipped, None, 1).seeds == own.subject.seeds


def test_what_no_setting_fixes_stands_beside_a_healthy_run(ldm_folder, tmp_path):
    folder = tmp_path / "nan"
    shutil.copytree(ldm_folder, folder)
    FOLDER_FAULTS["NaN in the UNet"].inject(folder)
    own = find_own_fault(read_checkpoint(folder), "finite", None, seed=0)
    assert not own.is_fixed
    assert own.beside.checkpoint.name == HEALTHY
    first = next(own.steps())
    assert first.right.z0.isfinite().all()
    assert not first.broken.z0.isfinite().all()


def test_a_check_that_accuses_of_nothing_and_an_autoencoder_are_refused(clipped, vae_folder):
    with pytest.raises(ValueError, match="accuses clipped of nothing: its diagnosis says more"):
        find_own_fault(clipped, "spacing", None, seed=0)
    with pytest.raises(ValueError, match="is an autoencoder"):
        find_own_fault(read_checkpoint(vae_folder), "clipping", None, seed=0)


def test_every_check_that_a_fault_names_is_there():
    checks = {check.name for check in CHECKS}
    named = [name for fault in FAULTS.values() for name in fault.found_by]
    assert set(named) <= checks
    assert len(named) == len(set(named))
    assert {name: fault_of(name) for name in ("clipping", "prediction_type", "samples")} == {
        "clipping": "clip_sample",
        "prediction_type": "other_prediction",
        "samples": None,
    }


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ('"timestep_spacing": "trailing"', {"timestep_spacing": "trailing"}),
        ('"prediction_type": "sample"', {"prediction_type": "sample"}),
        ('"rescale_betas_zero_snr": false, or train with "v_prediction"', {"rescale_betas_zero_snr": False}),
        ("trained_betas and num_train_timesteps of make_schedule('cosine', 400)", {"num_train_timesteps": 400}),
    ],
)
def test_a_line_of_the_scheduler_is_put_into_effect(sampling, line, fields):
    changed = remedy(verdict(f"{SCHEDULER}: {line}"))(sampling)
    assert {name: changed.scheduler.config[name] for name in fields} == fields


def test_a_schedule_that_the_network_answers_to_is_taken(sampling):
    found = verdict(f"{SCHEDULER}: the betas of training", "the network answers most like linear over 500.")
    changed = remedy(found)(sampling)
    assert torch.allclose(changed.scheduler.betas, make_schedule("linear", 500).betas)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
@pytest.mark.parametrize(
    "edited",
    [
        {"beta_schedule": "sigmoid"},
        {"beta_start": 0.00085, "beta_end": 0.012},
        {"trained_betas": [0.1] * 20},
        {"rescale_betas_zero_snr": True},
    ],
    ids=str,
)
def test_the_lines_that_give_a_schedule_undo_every_edit_of_it(name, edited):
    config = json.loads(DDPMScheduler(**edited).to_json_string())
    lines = as_settings(make_schedule(name, 500), config)
    assert '"num_train_timesteps": 500' in lines
    fixed = DDPMScheduler.from_config(config | json.loads(f"{{{lines}}}"))
    assert torch.allclose(fixed.betas, make_schedule(name, 500).betas, atol=1e-6)


@pytest.mark.parametrize(
    ("line", "kind", "walks_a_flow"),
    [
        ("that of a FlowMatchEulerDiscreteScheduler over 500 timesteps", "flow_prediction", True),
        (
            "that of a DDPMScheduler with trained_betas of make_schedule('linear', 500), which predicts epsilon",
            "epsilon",
            False,
        ),
    ],
)
@pytest.mark.parametrize("stored", [make_scheduler(FlowSchedule(1000), "flow"), DDPMScheduler()], ids=["flow", "betas"])
def test_the_other_kind_of_path_is_walked(tiny_pipeline, stored, line, kind, walks_a_flow):
    right = Sampling.right(LatentDiffusionPipeline(tiny_pipeline.vae, tiny_pipeline.unet, stored))
    changed = remedy(verdict(f"{SCHEDULER}: {line}"))(right)
    assert is_flow(changed.scheduler) == walks_a_flow
    config = changed.scheduler.config
    assert (config.prediction_type, config.num_train_timesteps) == (kind, 500)
    steps = denoise(changed.denoiser, changed.scheduler, torch.randn(1, *right.pipeline.latent_shape), num_steps=5)
    assert final_latents(steps).isfinite().all()


def test_a_shift_that_is_far_too_large_stands_beside_the_fix(flow_folder, tmp_path):
    folder = tmp_path / "shifted"
    shutil.copytree(flow_folder, folder)
    edit_json(folder / SCHEDULER, shift=36.0)
    own = find_own_fault(read_checkpoint(folder), "spacing", None, seed=0)
    assert [run.scheduler.config.flow_shift for run in (own.experiment.broken, own.experiment.right)] == [36.0, 1.0]
    *_, last = own.steps()
    assert not torch.equal(last.right.z0, last.broken.z0)


def test_a_flow_that_no_setting_fixes_stands_beside_a_healthy_run(flow_folder, tmp_path):
    folder = tmp_path / "nan"
    shutil.copytree(flow_folder, folder)
    FOLDER_FAULTS["NaN in the UNet"].inject(folder)
    own = find_own_fault(read_checkpoint(folder), "finite", None, seed=0)
    assert len(list(own.steps())) == own.experiment.total == 25


def test_the_scale_of_latents_and_labels_are_put_into_effect(sampling):
    codec, latents = sampling.pipeline.codec, torch.randn(2, *sampling.pipeline.latent_shape)
    stored = [f"{value:.6f}" for value in codec.std.flatten().tolist()]
    doubled = ", ".join(f"{2 * float(value):.6f}" for value in stored)
    mean = ", ".join(f"{value:.6f}" for value in codec.mean.flatten().tolist())
    changed = remedy(verdict(f'{VAE}: "latents_mean": [{mean}], "latents_std": [{doubled}], as measured'))(sampling)
    assert torch.allclose(changed.decode(latents), codec.decode(2 * latents), atol=1e-4)
    pixels = torch.rand(2, 1, 32, 32) * 2 - 1
    assert torch.allclose(changed.encode(pixels), codec.encode(pixels) / 2, atol=1e-4)
    factor = remedy(verdict(f'{VAE}: "scaling_factor": 0.5'))(sampling)
    assert torch.allclose(factor.encode(pixels), 0.5 * (codec.encode(pixels) * codec.std + codec.mean), atol=1e-4)
    moved = remedy(verdict(f'{VAE}: "shift_factor": 0.5'))(sampling)
    raw = codec.encode(pixels) * codec.std + codec.mean
    assert torch.allclose(moved.encode(pixels), (raw - 0.5) / codec.std, atol=1e-4)
    assert torch.allclose(moved.decode(moved.encode(pixels)), codec.decode(codec.encode(pixels)), atol=1e-4)
    shifted = remedy(verdict("unet/: the labels are shifted; meanwhile give label + 9"))(sampling)
    assert shifted.relabel(torch.tensor([0, 1, 5])).tolist() == [9, 0, 4]


def test_the_same_weights_stand_in_a_network_with_other_settings(sampling):
    changed = remedy(verdict(f'{UNET}: "flip_sin_to_cos": false'))(sampling)
    network, own = changed.denoiser.network, sampling.pipeline.unet
    assert not network.config.flip_sin_to_cos
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in network.state_dict().items())
    z_t = torch.randn(1, *sampling.pipeline.latent_shape)
    assert not torch.equal(changed.denoiser.predict(z_t, 500), sampling.denoiser.predict(z_t, 500))


@pytest.mark.parametrize(
    "fix",
    [
        "train it longer",
        f'{VAE}: "scaling_factor": 0.18, and train the denoiser again',
        f'{VAE}: "latents_mean": [1, 2, 3, 4, ...], "latents_std": [1, 2, 3, 4, ...]',
        f"{SCHEDULER}: trained_betas and num_train_timesteps of make_schedule('nobody', 400)",
        'unet/: take "other": 1 weights',
        "",
    ],
)
def test_what_has_to_be_trained_again_or_names_no_value_is_no_change(fix):
    assert remedy(verdict(fix)) is None
