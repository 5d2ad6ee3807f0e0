"""The code in run folders: diffusers alone loads it, it samples as the library does, and nothing of ours runs it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ENVIRONMENT
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from helpers import build_seeded

from ldm_explorer import standalone_pipeline
from ldm_explorer.checkpoints import load_pipeline, read_checkpoint
from ldm_explorer.explore.diagnosis import diagnose_folder
from ldm_explorer.models import UNetConfig
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.run_layout import CODE_FILE
from ldm_explorer.samplers import SAMPLERS, final_latents, make_generators
from ldm_explorer.shipped import shipped_checkpoints

SOURCE = Path(standalone_pipeline.__file__).read_text()
LABELS, SEEDS = [3, 7, 10], [0, 1, 2]
ALONE = """
import sys
sys.modules["ldm_explorer"] = None  # out of reach, wherever it is installed
try:
    import ldm_explorer.pipeline
except ModuleNotFoundError:
    import torch
from diffusers import DiffusionPipeline
for options in ({"custom_pipeline": sys.argv[1]}, {}):
    pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True, **options)
    generator = [torch.Generator().manual_seed(seed) for seed in (0, 1, 2)]
    images = pipeline([3, 7, 10], generator=generator, output_type="pt", num_inference_steps=4).images
assert [name for name in sys.modules if name.startswith("ldm_explorer")] == ["ldm_explorer"]
torch.save(images, sys.argv[2])
"""
HOSTILE = "from pathlib import Path\nPath({path!r}).write_text('run')\nraise SystemExit('hostile')\n"


@pytest.fixture(scope="module")
def standalone(ldm_folder):
    """The folder's own pipeline, as diffusers makes it of the file in there."""
    pipeline = DiffusionPipeline.from_pretrained(ldm_folder, custom_pipeline=str(ldm_folder), trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def by_steps(pipeline: LatentDiffusionPipeline, **options) -> torch.Tensor:
    """What the app shows, where every step is looked at, in [0, 1]."""
    latents = final_latents(pipeline.denoise(LABELS, SEEDS, **options))
    return (pipeline.codec.decode(latents) / 2 + 0.5).clamp(0, 1)


def test_the_file_is_short_and_needs_torch_and_diffusers_alone():
    assert len(SOURCE.splitlines()) < 180
    imported = {
        line.split()[1].partition(".")[0] for line in SOURCE.splitlines() if line.startswith(("import", "from"))
    }
    assert imported - sys.stdlib_module_names == {"torch", "diffusers"}


def test_a_folder_is_loaded_by_diffusers_where_this_package_is_not(ldm_folder, tiny_pipeline, tmp_path):
    command = [sys.executable, "-I", "-c", ALONE, str(ldm_folder), str(tmp_path / "images.pt")]
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    images = torch.load(tmp_path / "images.pt", weights_only=True)
    assert torch.equal(images, by_steps(tiny_pipeline, num_inference_steps=4))


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_the_image_that_the_library_makes(standalone, tiny_pipeline, sampler, guidance_scale):
    assert type(standalone).__module__.startswith("diffusers_modules")
    options = {"num_inference_steps": 4, "guidance_scale": guidance_scale, "sampler": sampler}
    images = standalone(LABELS, generator=make_generators(SEEDS), output_type="pt", **options).images
    assert torch.equal(images, by_steps(tiny_pipeline, **options))
    assert torch.equal(images, tiny_pipeline(LABELS, SEEDS, output_type="pt", **options).images)


@pytest.fixture(params=["ours", "standalone"])
def pipeline(request, standalone, tiny_pipeline):
    """Both take what a pipeline of diffusers takes."""
    return {"ours": tiny_pipeline, "standalone": standalone}[request.param]


def sampled(pipeline, *arguments, **options) -> torch.Tensor:
    return pipeline(*arguments, num_inference_steps=2, output_type="pt", **options).images


def test_a_label_serves_a_batch_and_a_list_of_labels_is_one(pipeline):
    one_each = sampled(pipeline, [3, 3], generator=make_generators([0, 1]))
    for labels in (3, [3], torch.tensor([3])):
        assert torch.equal(sampled(pipeline, labels, batch_size=2, generator=make_generators([0, 1])), one_each)
    assert torch.equal(sampled(pipeline, 3, generator=make_generators([0, 1])), one_each)
    assert len(sampled(pipeline, [1, 2, 3])) == 3
    assert len(sampled(pipeline, batch_size=2)) == 2
    assert len(sampled(pipeline)) == 1


def test_one_generator_draws_the_whole_batch_and_goes_on(pipeline):
    generator = torch.Generator().manual_seed(5)
    first, second = (sampled(pipeline, [1, 1], generator=generator) for _ in range(2))
    assert torch.equal(sampled(pipeline, [1, 1], generator=torch.Generator().manual_seed(5)), first)
    assert len({image.numpy().tobytes() for image in (*first, *second)}) == 4


def test_both_draw_the_same_from_one_generator(standalone, tiny_pipeline):
    for sampler in SAMPLERS:
        images = [
            sampled(pipeline, [1, 2], generator=torch.Generator().manual_seed(5), sampler=sampler)
            for pipeline in (standalone, tiny_pipeline)
        ]
        assert torch.equal(*images)


def test_pictures_arrays_tensors_and_tuples_are_the_same_images(pipeline):
    def made(output_type, **options):
        generator = make_generators([0, 1])
        return pipeline([3, 7], generator=generator, num_inference_steps=2, output_type=output_type, **options)

    tensor = made("pt").images
    assert tensor.shape == (2, 1, 32, 32)
    assert 0 <= tensor.min() < tensor.max() <= 1
    assert np.array_equal(made("np").images, tensor.permute(0, 2, 3, 1).numpy())
    pictures, *rest = made("pil", return_dict=False)
    assert rest == []
    assert np.array_equal(np.stack([np.array(picture) for picture in pictures]), (tensor * 255).round().byte()[:, 0])


def test_a_callback_sees_every_step_and_may_change_the_latents(pipeline):
    seen = []

    def look(asked, step, timestep, tensors):
        seen.append((asked, step, int(timestep), tensors["latents"].shape))

    images = sampled(pipeline, [3], generator=make_generators([0]), callback_on_step_end=look)
    assert seen == [(pipeline, 0, 999, (1, 4, 8, 8)), (pipeline, 1, 499, (1, 4, 8, 8))]
    unchanged = sampled(pipeline, [3], generator=make_generators([0]), callback_on_step_end=lambda *given: given[-1])
    assert torch.equal(unchanged, images)
    emptied = sampled(
        pipeline,
        [3],
        generator=make_generators([0]),
        callback_on_step_end=lambda *given: {"latents": given[-1]["latents"] * 0} if given[1] else {},
    )
    codec = load_codec(pipeline)
    assert torch.equal(emptied, (codec(torch.zeros(1, 4, 8, 8)) / 2 + 0.5).clamp(0, 1))
    sampled(
        pipeline, [3], callback_on_step_end=lambda *given: seen.append(given[-1]), callback_on_step_end_tensor_inputs=[]
    )
    assert seen[-1] == {}


def load_codec(pipeline):
    return torch.no_grad()(pipeline._decode)


def test_a_scheduler_of_another_class_takes_the_place_of_the_default_sampler(standalone, ldm_folder):
    images = []
    for pipeline in (standalone, load_pipeline(ldm_folder)):
        trained = pipeline.scheduler
        pipeline.scheduler = EulerDiscreteScheduler.from_config(trained.config)
        images += [sampled(pipeline, [3], generator=make_generators([0])) for _ in range(2)]
        pipeline.scheduler = trained
        assert not torch.equal(sampled(pipeline, [3], generator=make_generators([0])), images[-1])
    assert all(torch.equal(images[0], image) for image in images)


WRONG = {
    "another output": ({"output_type": "latent"}, "output_type is 'latent': give 'pil', 'np' or 'pt'"),
    "a sampler that is none": ({"sampler": "eulr"}, "unknown sampler 'eulr': choose one of dpm"),
    "no step": ({"num_inference_steps": 0}, "0 steps: give 1 to 1000"),
    "no image": ({"batch_size": 0}, "for 0 images"),
    "less than none": ({"batch_size": -1}, "for -1 images"),
    "a word": ({"class_labels": "a shoe"}, "class labels 'a shoe': the network knows 11 of them, from 0 on"),
    "no label": ({"class_labels": []}, "for 0 images"),
    "a class in a float": ({"class_labels": [1.0]}, r"class labels \[1.0\]: the network knows 11 of them, from 0 on"),
    "labels for others": ({"class_labels": [1, 2], "batch_size": 3}, "for 3 images: give one, or one for each"),
    "a class that is none": ({"class_labels": [11]}, r"class labels \[11\]: the network knows 11 of them, from 0 on"),
    "half a class": ({"class_labels": [0.5]}, r"class labels \[0.5\]: the network knows 11 of them, from 0 on"),
    "guidance to nothing": ({"guidance_scale": 2.0}, "guidance needs class labels"),
    "guidance that is no number": (
        {"class_labels": [1], "guidance_scale": float("nan")},
        "guidance_scale is nan",
    ),
    "endless guidance": ({"class_labels": [1], "guidance_scale": float("inf")}, "guidance_scale is inf: give a number"),
    "guidance in letters": ({"class_labels": [1], "guidance_scale": "2"}, "guidance_scale is '2': give a number"),
    "tensors that it has not": ({"callback_on_step_end_tensor_inputs": ["prompt_embeds"]}, "has {'prompt_embeds'}"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_sampled_is_refused_in_a_sentence(standalone, name):
    options, said = WRONG[name]
    with pytest.raises(ValueError, match=said):
        standalone(**{"num_inference_steps": 2} | options)


def test_a_network_without_classes_samples_and_refuses_labels(standalone, tiny_vae):
    unet = build_seeded(UNetConfig(8, 4, num_classes=0, widths=(16, 32), layers_per_block=1))
    pipeline = type(standalone)(tiny_vae, unet, standalone.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    assert sampled(pipeline, batch_size=2).isfinite().all()
    with pytest.raises(ValueError, match=r"class labels \[0\]: the network knows 0 of them"):
        sampled(pipeline, [0])


def test_half_precision_samples(ldm_folder):
    """As those load it who have a GPU."""
    options = {"custom_pipeline": str(ldm_folder), "trust_remote_code": True, "torch_dtype": torch.bfloat16}
    pipeline = DiffusionPipeline.from_pretrained(ldm_folder, **options)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.unet.dtype == torch.bfloat16
    images = sampled(pipeline, [3], generator=make_generators([0]), guidance_scale=2.0)
    assert (images.dtype, images.isfinite().all().item()) == (torch.float32, True)


def test_diffusers_says_what_a_folder_needs_that_is_loaded_without_trust(ldm_folder):
    with pytest.raises(ValueError, match=r"contains custom code in pipeline.py(.|\n)*trust_remote_code=True"):
        DiffusionPipeline.from_pretrained(ldm_folder)


@pytest.mark.parametrize(
    "folder",
    sorted(path.parent for path in shipped_checkpoints().glob("*/*/model_index.json")),
    ids=lambda folder: folder.name,
)
def test_a_shipped_denoiser_has_the_file_as_it_is_now(folder):
    assert (folder / CODE_FILE).read_text() == SOURCE, "run python tools/add_pipeline.py checkpoints/*/*"
    assert (
        '"_class_name": [\n    "pipeline",\n    "LatentDiffusionPipeline"\n  ]'
        in (folder / "model_index.json").read_text()
    )


def test_nothing_of_ours_runs_the_code_of_a_folder(ldm_folder, tmp_path):
    folder, trace = tmp_path / "fashion_mnist" / "hostile", tmp_path / "trace"
    shutil.copytree(ldm_folder, folder)
    (folder / CODE_FILE).write_text(HOSTILE.format(path=str(trace)))
    for part in ("unet", "vae", "scheduler"):
        shutil.copy(folder / CODE_FILE, folder / part)
    read_checkpoint(folder).pipeline([3], num_inference_steps=1)
    LatentDiffusionPipeline.from_pretrained(folder)
    diagnose_folder(folder)
    assert not trace.exists()
    with pytest.raises(SystemExit, match="hostile"):
        DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    assert trace.exists()
