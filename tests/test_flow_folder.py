"""A folder that holds a flow: stock diffusers samples from it, and whatever takes a checkpoint takes it."""

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DModel

from ldm_explorer.checkpoints import load_pipeline, read_checkpoint
from ldm_explorer.diagnosis.denoisers import EXACT_DENOISERS, denoiser_of
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.discovery import discover
from ldm_explorer.evaluation.cost import measure_cost
from ldm_explorer.explore.checkpoint_words import in_a_line
from ldm_explorer.explore.denoising import denoise_images
from ldm_explorer.explore.export import denoising_script
from ldm_explorer.explore.library import open_library
from ldm_explorer.samplers import FLOW_SAMPLERS, final_latents, make_generators, make_scheduler
from ldm_explorer.schedules import FlowSchedule
from ldm_explorer.ui.rooms import ROOMS

LABELS, SEEDS = [3, 7, 10], [0, 1, 2]


@pytest.fixture(scope="module")
def flow(flow_folder):
    return read_checkpoint(flow_folder)


@pytest.fixture(scope="module")
def flow_library(flow_folder):
    return open_library(flow_folder.parents[1])


@torch.no_grad()
def stock(folder, num_steps: int) -> torch.Tensor:
    """What a loop of stock diffusers makes of the folder, in [-1, 1]."""
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    unet = UNet2DModel.from_pretrained(folder, subfolder="unet")
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / num_steps, num_steps).tolist())
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    z = torch.stack([torch.randn(4, 8, 8, generator=generator) for generator in generators])
    for t in scheduler.timesteps:
        u = unet(z, t, class_labels=torch.tensor(LABELS)).sample
        z = scheduler.step(u, t, z).prev_sample
    mean, std = (torch.tensor(vae.config[name]).view(1, -1, 1, 1) for name in ("latents_mean", "latents_std"))
    return vae.decode(z * std + mean).sample.clamp(-1, 1)


def test_a_loop_of_stock_diffusers_makes_our_image(flow_folder):
    images = load_pipeline(flow_folder)(LABELS, SEEDS, sampler="euler", num_inference_steps=10, output_type="pt").images
    assert torch.allclose(stock(flow_folder, 10) / 2 + 0.5, images, atol=1e-5)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
@pytest.mark.parametrize("sampler", FLOW_SAMPLERS)
def test_the_file_in_the_folder_makes_the_image_that_the_library_makes(flow_folder, sampler, guidance_scale):
    alone = DiffusionPipeline.from_pretrained(flow_folder, custom_pipeline=str(flow_folder), trust_remote_code=True)
    alone.set_progress_bar_config(disable=True)
    ours = load_pipeline(flow_folder)
    options = {"num_inference_steps": 5, "guidance_scale": guidance_scale, "sampler": sampler}
    images = alone(LABELS, generator=make_generators(SEEDS), output_type="pt", **options).images
    latents = final_latents(ours.denoise(LABELS, SEEDS, **options))
    assert torch.equal(images, (ours.codec.decode(latents) / 2 + 0.5).clamp(0, 1))
    assert torch.equal(images, ours(LABELS, SEEDS, output_type="pt", **options).images)


def test_by_default_both_take_the_default_sampler_along_the_flow(flow_folder, flow):
    alone = DiffusionPipeline.from_pretrained(flow_folder, custom_pipeline=str(flow_folder), trust_remote_code=True)
    alone.set_progress_bar_config(disable=True)
    images = alone(LABELS, generator=make_generators(SEEDS), output_type="pt").images
    assert torch.equal(images, flow.pipeline(LABELS, SEEDS, output_type="pt").images)
    with pytest.raises(ValueError, match=r"unknown sampler 'ddim': choose one of dpm\+\+, unipc, euler, heun"):
        alone(LABELS, sampler="ddim")


def test_what_takes_the_velocity_alone_is_refused_for_a_network_that_predicts_z0(flow_folder):
    alone = DiffusionPipeline.from_pretrained(flow_folder, custom_pipeline=str(flow_folder), trust_remote_code=True)
    alone.scheduler = make_scheduler(FlowSchedule(1000), "sample")
    alone.set_progress_bar_config(disable=True)
    for sampler in ("euler", "heun"):
        with pytest.raises(ValueError, match=rf"unknown sampler '{sampler}': choose one of dpm\+\+, unipc$"):
            alone(LABELS, sampler=sampler)
    pixels = alone(LABELS, sampler="dpm++", num_inference_steps=2, output_type="pt").images
    assert pixels.isfinite().all()


@pytest.mark.parametrize("sampler", FLOW_SAMPLERS)
def test_a_script_on_stock_diffusers_makes_the_pipeline_image(flow, tmp_path, monkeypatch, sampler):
    monkeypatch.chdir(tmp_path)
    script = denoising_script(flow, str(flow.folder), "Dress", 5, sampler=sampler, num_steps=5, guidance_scale=2.0)
    variables: dict = {}
    exec(script, variables)
    torch.set_grad_enabled(True)
    images = flow.pipeline(
        [3], [5], num_inference_steps=5, output_type="pt", sampler=sampler, guidance_scale=2.0
    ).images
    assert torch.equal((variables["images"] / 2 + 0.5)[..., :28, :28], images[..., 2:30, 2:30])


def test_it_is_discovered_and_said_in_a_line(flow, flow_folder):
    ((found,), passed_over) = discover(flow_folder.parents[1])
    assert passed_over == []
    assert found.schedule == flow.schedule
    assert in_a_line(flow) == "tiny-flow: denoiser, flow, flow velocity; 8x8x4 = 256 values"
    assert measure_cost(flow).evaluation_gflops > 0


@pytest.mark.parametrize("name", EXACT_DENOISERS)
def test_exact_denoisers_walk_along_it(flow, name):
    steps = list(flow.pipeline.denoise([0], [0], denoiser=denoiser_of(name, flow)))
    assert all(step.z_next.isfinite().all() for step in steps)
    assert float(steps[-1].z_next.std()) < 1.5


def test_its_loss_is_read_by_the_floors_of_a_flow(flow):
    reading = read_loss(flow)
    assert reading.prediction_type == "flow"
    assert reading.mean_floors["white"] == pytest.approx(torch.pi / 2, rel=2e-3)
    assert "white floor" in reading.sentence() or "Gaussian floor" in reading.sentence()


def test_frames_say_where_on_the_line_they_are(flow):
    frames = list(denoise_images(flow, "Bag", 0, sampler="euler", num_steps=4, guidance_scale=1.0))
    assert [frame.timestep for frame in frames] == [1000, 750, 500, 250]
    for frame in frames:
        s = frame.timestep / 1000
        assert torch.allclose(frame.z_t, (1 - s) * frame.z0 + s * frame.eps, atol=1e-4) or frame is frames[-1]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.NAME)
def test_every_room_shows_it_or_says_in_a_sentence_what_it_does_not_show(flow_library, room):
    chosen, beside = room.SETTINGS.read("checkpoint=tiny-flow&class_name=Bag&run=tiny-flow&steps=5")
    answers, refused = [], ""
    try:
        answers = list(room.answer(flow_library, chosen, beside))
    except ValueError as error:
        refused = str(error)
    assert answers or "flow" in refused
    assert "\n" not in refused
