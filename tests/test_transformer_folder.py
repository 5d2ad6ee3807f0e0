"""A folder that holds a transformer: stock diffusers samples from it, and whatever takes a checkpoint takes it."""

import pytest
import torch
from diffusers import DiffusionPipeline, DiTTransformer2DModel
from helpers import build_seeded, same_weights

from ldm_explorer.checkpoints import load_pipeline, read_checkpoint, save_pipeline
from ldm_explorer.data import crop
from ldm_explorer.diagnosis.denoisers import denoiser_of
from ldm_explorer.diagnosis.examination import FAILED, examine
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.discovery import discover
from ldm_explorer.evaluation.cost import measure_cost
from ldm_explorer.explore.checkpoint_words import in_a_line
from ldm_explorer.explore.export import denoising_script
from ldm_explorer.explore.library import open_library
from ldm_explorer.models import TransformerConfig
from ldm_explorer.samplers import final_latents, make_generators, make_scheduler
from ldm_explorer.schedules import FlowSchedule, make_schedule
from ldm_explorer.ui.rooms import ROOMS

LABELS, SEEDS = [3, 7, 10], [0, 1, 2]


@pytest.fixture(scope="module")
def checkpoint(transformer_folder):
    return read_checkpoint(transformer_folder)


@pytest.fixture(scope="module")
def transformer_library(transformer_folder):
    return open_library(transformer_folder.parents[1])


@pytest.fixture(scope="module")
def unlabelled_folder(tiny_vae, tiny_transformer, tmp_path_factory):
    """A flow without classes: whatever is asked of it, it is told label 0."""
    folder = tmp_path_factory.mktemp("unlabelled") / "fashion_mnist" / "unlabelled"
    network = build_seeded(TransformerConfig(8, 4, 0, width=32, depth=2, patch_size=2))
    known = {name: value for name, value in tiny_transformer.state_dict().items() if "embedding_table" not in name}
    network.load_state_dict(known, strict=False)
    save_pipeline(folder, tiny_vae, network, make_scheduler(FlowSchedule(1000), "flow"))
    return folder


def test_it_comes_back_as_it_was_saved(checkpoint, tiny_transformer):
    pipeline = checkpoint.pipeline
    stock = DiTTransformer2DModel.from_pretrained(checkpoint.folder, subfolder="transformer")
    assert same_weights(pipeline.transformer.state_dict(), tiny_transformer.state_dict())
    assert torch.equal(pipeline.transformer.pos_embed.pos_embed, stock.pos_embed.pos_embed)
    assert pipeline.unet is None
    assert pipeline.network is pipeline.denoiser.network is pipeline.transformer
    assert (pipeline.denoiser.num_classes, pipeline.null_class) == (10, 10)


def test_in_training_no_block_drops_labels_by_itself(checkpoint):
    stored = DiTTransformer2DModel.from_pretrained(checkpoint.folder, subfolder="transformer")
    built = TransformerConfig(8, 4, 10, width=32, depth=2).build()
    shares = [
        [block.norm1.emb.class_embedder.dropout_prob for block in network.transformer_blocks]
        for network in (stored, checkpoint.pipeline.transformer, built)
    ]
    assert shares == [[0.1, 0.1], [0, 0], [0, 0]]


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_the_file_in_the_folder_makes_the_image_that_the_library_makes(transformer_folder, guidance_scale):
    alone = loaded_by_diffusers(transformer_folder)
    ours = load_pipeline(transformer_folder)
    options = {"num_inference_steps": 5, "guidance_scale": guidance_scale}
    images = alone(LABELS, generator=make_generators(SEEDS), output_type="pt", **options).images
    latents = final_latents(ours.denoise(LABELS, SEEDS, sampler="unipc", **options))
    assert torch.equal(images, (ours.codec.decode(latents) / 2 + 0.5).clamp(0, 1))
    assert torch.equal(images, ours(LABELS, SEEDS, output_type="pt", **options).images)
    with pytest.raises(ValueError, match=r"class labels \[11\]: the network knows 11 of them, from 0 on"):
        alone([11])


def test_one_without_classes_is_sampled_without_any(unlabelled_folder):
    alone, ours = loaded_by_diffusers(unlabelled_folder), load_pipeline(unlabelled_folder)
    assert (ours.denoiser.num_classes, ours.null_class) == (0, None)
    images = alone(batch_size=3, generator=make_generators(SEEDS), output_type="pt").images
    assert torch.equal(images, ours(seeds=SEEDS, output_type="pt", batch_size=3).images)
    for pipeline in (alone, ours):
        with pytest.raises(ValueError, match="label"):
            pipeline([0])


def loaded_by_diffusers(folder) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(folder, custom_pipeline=str(folder), trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_a_script_on_stock_diffusers_makes_the_pipeline_image(checkpoint, tmp_path, monkeypatch, guidance_scale):
    monkeypatch.chdir(tmp_path)
    options = {"sampler": "ddpm", "guidance_scale": guidance_scale}
    folder = str(checkpoint.folder)
    script = denoising_script(checkpoint, folder, "Dress", 5, 2, num_steps=4, **options)
    variables: dict = {}
    with torch.no_grad():
        exec(script, variables)
    images = checkpoint.pipeline([3, 3], [5, 6], num_inference_steps=4, output_type="pt", **options).images
    assert torch.equal(variables["images"] / 2 + 0.5, crop(images, checkpoint.spec))


def test_a_script_of_one_without_classes_makes_its_image(unlabelled_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = read_checkpoint(unlabelled_folder)
    options = {"sampler": "euler", "guidance_scale": 1.0}
    variables: dict = {}
    with torch.no_grad():
        exec(denoising_script(checkpoint, str(checkpoint.folder), None, 5, num_steps=4, **options), variables)
    seeds = range(5, 5 + len(variables["z"]))
    images = checkpoint.pipeline(None, seeds, num_inference_steps=4, output_type="pt", **options).images
    assert torch.equal(variables["images"] / 2 + 0.5, crop(images, checkpoint.spec))


def test_times_between_the_steps_of_a_flow_reach_it_unrounded(unlabelled_folder):
    denoiser = read_checkpoint(unlabelled_folder).denoiser
    z_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    told = torch.full((2,), 500.25)
    expected = denoiser.network(z_t, told, torch.zeros(2, dtype=torch.long)).sample
    for timestep in (500.25, torch.tensor(500.25), told):
        assert torch.equal(denoiser.predict(z_t, timestep), expected)
    assert not torch.equal(denoiser.predict(z_t, 500), expected)


def test_of_two_networks_the_later_one_is_left(checkpoint, tiny_pipeline, tmp_path):
    scheduler = make_scheduler(make_schedule("cosine"), "v_prediction")
    for network, part in ((checkpoint.pipeline.transformer, "transformer"), (tiny_pipeline.unet, "unet")):
        save_pipeline(tmp_path, tiny_pipeline.vae, network, scheduler)
        assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
            *(".ldm-explorer", "vae", "scheduler"),
            part,
        }
        assert same_weights(load_pipeline(tmp_path).network.state_dict(), network.state_dict())


def test_it_is_discovered_and_said_in_a_line(checkpoint, transformer_folder):
    ((found,), passed_over) = discover(transformer_folder.parents[1])
    assert passed_over == []
    assert torch.equal(found.schedule.alpha_bars, make_schedule("cosine").alpha_bars)
    assert in_a_line(checkpoint) == "tiny-transformer: transformer, cosine, velocity; 8x8x4 = 256 values"


def test_its_cost_counts_every_product_of_matrices(checkpoint):
    """Of 16 tokens of 32 channels in 2 blocks: four maps and two products of attention, 4 times the width between."""
    tokens, width, blocks = 16, 32, 2
    of_block = tokens * (4 + 8) * width**2 + 2 * tokens**2 * width + 6 * width**2
    of_embedding = 256 * width + width**2
    ends = tokens * width * 16 * 2 + 2 * width**2
    products = blocks * (of_block + of_embedding) + of_embedding + ends
    assert measure_cost(checkpoint).evaluation_gflops == pytest.approx(2 * products / 1e9)


def test_exact_denoisers_answer_in_its_place(checkpoint):
    steps = list(checkpoint.pipeline.denoise([0], [0], denoiser=denoiser_of("Gaussian", checkpoint)))
    assert all(step.z_next.isfinite().all() for step in steps)


def test_every_check_runs_on_it_or_says_why_not(transformer_folder):
    verdicts = {verdict.name: verdict for verdict in examine(open_case(transformer_folder)).verdicts}
    assert [verdict.evidence for verdict in verdicts.values() if FAILED in verdict.evidence] == []
    assert {name for name in ("time_response", "label_response", "finite") if verdicts[name].status != "ok"} == set()


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.NAME)
def test_every_room_shows_it(transformer_library, room):
    settings = "checkpoint=tiny-transformer&class_name=Bag&run=tiny-transformer&steps=5"
    chosen, beside = room.SETTINGS.read(settings)
    assert list(room.answer(transformer_library, chosen, beside))
