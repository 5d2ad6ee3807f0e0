"""The diagnosis says no more than it knows: each of these was once accused, or called healthy, without evidence."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, PNDMScheduler
from folder_edits import edit_json

from ldm_explorer import diagnose
from ldm_explorer.data import DATASETS, pad
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks import CHECKS, labels
from ldm_explorer.diagnosis.examination import examine, run_check
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.diagnosis.known import KnownLatents
from ldm_explorer.diagnosis.verdicts import Diagnosis, NotRun, Verdict
from ldm_explorer.explore.diagnosis import diagnose_folder, labels_of
from ldm_explorer.latents import Posterior
from ldm_explorer.schedules import make_schedule
from ldm_explorer.shipped import find_checkpoint
from ldm_explorer.ui.rooms.diagnosis import card

CHECK = {check.name: check for check in CHECKS}
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@pytest.mark.parametrize(
    ("folders", "meant"),
    [
        (("ankle_boot", "bag", "sandal"), [9, 8, 5]),
        (("T-Shirt top", "shirt", "ANKLE-BOOT"), [0, 6, 9]),
        (("tshirt_top", "AnkleBoot"), [0, 9]),
        (("tshirt", "top"), [0, 0]),
        (("0", "07", "9"), [0, 7, 9]),
        (("bag", "cat"), None),
        (("class 3", "class 4"), None),
        (("bag", "3"), None),
        ((), None),
    ],
)
def test_a_subfolder_is_a_label_by_its_name_or_its_number_alone(folders, meant):
    assert labels_of(folders, FASHION) == meant


def test_without_class_names_only_numbers_are_labels():
    assert labels_of(("ankle_boot", "bag", "sandal"), ()) is None
    assert labels_of(("5", "8"), ()) == [5, 8]


def test_a_name_that_two_classes_share_is_neither():
    assert labels_of(("top",), ("shirt/top", "jumper/top")) is None
    assert labels_of(("shirt_top",), ("shirt/top", "jumper/top")) == [0]


@pytest.fixture(scope="module")
def ldm_case(ldm_folder):
    return open_case(ldm_folder)


def test_subfolders_of_unknown_labels_are_no_labels(ldm_case, shapes):
    case = replace(ldm_case, images=shapes.images, image_folders=("ankle_boot", "bag", "sandal"))
    verdict = run_check(CHECK["labels_match"], case)
    assert verdict.status == "not run"
    assert "which label each subfolder is, is not known" in verdict.evidence


def test_without_a_null_class_the_last_label_is_a_class(ldm_case, shapes):
    every = replace(ldm_case, images=shapes.images, image_labels=shapes.labels, num_classes=ldm_case.num_labels)
    with_null = replace(every, num_classes=every.num_labels - 1)
    assert (every.null_class, with_null.null_class) == (None, every.num_labels - 1)
    last = torch.full_like(shapes.labels, every.num_labels - 1)
    assert replace(every, image_labels=last).stored_latents.labelled
    assert not replace(with_null, image_labels=last).stored_latents.labelled


def test_where_every_label_is_a_class_and_none_is_known_the_likeliest_is_told(ldm_case, shapes):
    case = replace(ldm_case, images=shapes.images, num_classes=ldm_case.num_labels)
    known = case.stored_latents
    assert not known.labelled
    assert known.labels.shape == known.z0.shape[:1]
    assert set(known.labels.tolist()) <= set(range(case.num_labels))


def sampled_by(scheduler, *, of_latents: bool) -> Case:
    """A folder whose settings alone are looked at."""
    config = dict(scheduler.config) | {"_class_name": type(scheduler).__name__}
    ours = DDPMScheduler.from_config(scheduler.config)
    vae, unet = (torch.nn.Identity() if of_latents else None), torch.nn.Identity()
    return Case(Path("foreign"), {}, [], vae, unet, ours, config, None, False)


def accused(case: Case) -> dict[str, Verdict]:
    verdicts = (run_check(CHECK[name], case) for name in ("terminal_snr", "clipping", "spacing"))
    return {verdict.name: verdict for verdict in verdicts if verdict.status == "suspect"}


STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
HEALTHY = {
    "pixels, DDPM's defaults": (DDPMScheduler(), False),
    "pixels, DDIM's defaults": (DDIMScheduler(), False),
    "pixels, cosine and epsilon, clipped": (DDPMScheduler(beta_schedule="squaredcos_cap_v2"), False),
    "pixels, sigmoid": (DDPMScheduler(beta_schedule="sigmoid"), False),
    "latents, DDPM's defaults unclipped": (DDPMScheduler(clip_sample=False), True),
    "latents, Stable Diffusion": (PNDMScheduler(**STABLE_DIFFUSION, skip_prk_steps=True, steps_offset=1), True),
    "latents, Stable Diffusion's DDIM": (DDIMScheduler(**STABLE_DIFFUSION, clip_sample=False, steps_offset=1), True),
    "latents, cosine and epsilon, few leading steps": (
        DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False),
        True,
    ),
    "latents, cosine and v, trailing": (
        DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            clip_sample=False,
            timestep_spacing="trailing",
        ),
        True,
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_settings_that_people_train_with_are_not_accused(name):
    scheduler, of_latents = HEALTHY[name]
    assert accused(sampled_by(scheduler, of_latents=of_latents)) == {}


FIXABLE = [
    {"beta_schedule": beta_schedule, "prediction_type": prediction, "timestep_spacing": spacing, "clip_sample": clip}
    | {"rescale_betas_zero_snr": rescale}
    for beta_schedule in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")
    for prediction in ("epsilon", "v_prediction")
    for spacing in ("leading", "trailing", "linspace")
    for clip in (True, False)
    for rescale in (True, False)
]


@pytest.mark.parametrize("scheduler_class", [DDPMScheduler, DDIMScheduler])
@pytest.mark.parametrize("of_latents", [True, False])
def test_no_fix_makes_the_next_accusation(scheduler_class, of_latents):
    for config in FIXABLE:
        if scheduler_class is DDIMScheduler and config["beta_schedule"] == "sigmoid":
            continue  # diffusers' has no such schedule
        before = accused(sampled_by(scheduler_class(**config), of_latents=of_latents))
        fixes = [re.findall(r'"(\w+)": ("?[\w.]+"?)', found.fix) for found in before.values()]
        fixed = config | {name: json.loads(value) for fix in fixes for name, value in fix}
        after = accused(sampled_by(scheduler_class(**fixed), of_latents=of_latents))
        assert after.keys() <= before.keys(), (config, fixed)


def test_leading_spacing_is_accused_where_trailing_starts_in_noise():
    cosine = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "clip_sample": False}
    assert accused(sampled_by(DDPMScheduler(**cosine), of_latents=True)).keys() == {"spacing"}


def test_what_a_scheduler_does_not_read_is_not_accused():
    case = sampled_by(PNDMScheduler(), of_latents=True)
    assert "clipping" not in accused(replace(case, scheduler_config=case.scheduler_config | {"clip_sample": True}))


def test_thresholding_clips_latents_too():
    found = accused(sampled_by(DDPMScheduler(thresholding=True), of_latents=True))["clipping"]
    assert '"clip_sample": false, "thresholding": false' in found.fix


@pytest.mark.parametrize(("num_timesteps", "early"), [(50, True), (250, True), (500, True), (1000, False)])
def test_a_schedule_that_ends_early_is_accused_by_name(num_timesteps, early):
    betas = make_schedule("linear").betas[:num_timesteps].tolist()
    scheduler = DDPMScheduler(num_timesteps, trained_betas=betas, clip_sample=False)
    found = accused(sampled_by(scheduler, of_latents=True))
    assert bool(found) == early
    assert all("noise that training never saw" in verdict.title for verdict in found.values())


def test_fewer_betas_than_timesteps_are_accused_also_without_a_record():
    case = sampled_by(DDPMScheduler(1000, trained_betas=make_schedule("linear", 600).betas.tolist()), of_latents=True)
    assert run_check(CHECK["schedule"], case).status == "suspect"


@pytest.mark.parametrize("images", [torch.zeros(1, 1, 32, 32), torch.zeros(30, 1, 32, 32)])
@pytest.mark.parametrize("name", ["collapse", "latent_scale", "round_trip"])
def test_one_image_or_one_image_over_and_over_accuses_no_autoencoder(vae_folder, images, name):
    case = replace(open_case(vae_folder), images=images.to(torch.uint8))
    assert run_check(CHECK[name], case).status == "not run"


def test_seven_images_are_enough_to_look_at_an_autoencoder(vae_folder, shapes):
    case = replace(open_case(vae_folder), images=shapes.images[:7])
    assert run_check(CHECK["collapse"], case).status == "ok"
    assert run_check(CHECK["round_trip"], case).status != "not run"
    assert "at least 16 images" in run_check(CHECK["latent_scale"], case).evidence


def test_images_of_one_class_do_not_accuse_an_autoencoder_of_its_scale(fashion_mnist_dir):
    dataset = DATASETS["fashion_mnist"]
    images, labels = dataset.load(fashion_mnist_dir, "test")
    case = open_case(find_checkpoint(Path("checkpoints/fashion_mnist/vae-8x8x4")))
    sandals = replace(case, images=pad(images[labels == 5][:64], dataset.spec))
    verdict = run_check(CHECK["latent_scale"], sandals)
    assert verdict.status == "not run"
    assert "images of every class" in verdict.evidence
    sandals = replace(sandals)
    sandals.codec.std.mul_(2)
    assert run_check(CHECK["latent_scale"], sandals).status == "suspect"


@pytest.mark.parametrize("factor", [0.01, 1.0, 30.0])
def test_an_encoder_may_answer_in_any_unit(vae_folder, shapes, factor):
    case = replace(open_case(vae_folder), images=shapes.images[:40])
    raw, codec = case.codec.raw_posterior(case.pixels), case.codec
    case.__dict__["posterior"] = Posterior(raw.mean / raw.mean.std(), 0.1 * torch.ones_like(raw.std))
    codec.mean, codec.std = torch.zeros_like(codec.mean), torch.full_like(codec.std, factor)
    assert run_check(CHECK["collapse"], case).status == "ok"
    case.__dict__["posterior"] = Posterior(torch.zeros_like(raw.mean), torch.ones_like(raw.std))
    codec.std = torch.ones_like(codec.std)
    assert run_check(CHECK["collapse"], case).status == "suspect"


def test_one_image_is_too_few_and_not_said_to_be_infinite(ldm_folder, shapes):
    case = replace(open_case(ldm_folder), statistics=None, images=shapes.images[:1], image_labels=None)
    verdicts = [run_check(check, case) for check in CHECKS]
    assert not any("finite" in verdict.evidence for verdict in verdicts if verdict.status == "not run")


def test_without_images_no_autoencoder_is_accused_of_what_its_denoiser_samples(ldm_case):
    verdicts = {name: run_check(CHECK[name], ldm_case) for name in ("latent_scale", "round_trip")}
    assert {verdict.status for verdict in verdicts.values()} <= {"ok", "not run"}
    assert "only images tell" in verdicts["round_trip"].evidence


def test_a_folder_that_hardly_anything_could_look_at_is_not_called_healthy(vae_folder, tmp_path, capsys):
    folder = shutil.copytree(vae_folder / "vae", tmp_path / "somebodys" / "vae").parent
    assert diagnose.main([str(folder)]) == diagnose.UNJUDGED
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("Could not judge somebodys")
    assert "--images" in said.split("(")[0]
    diagnosis = diagnose_folder(folder)
    assert diagnosis.as_json()["healthy"] is None
    assert "ldm-verdict unjudged" in card(diagnosis)


def test_checks_that_break_are_not_run_and_leave_nothing_judged(ldm_case, shapes):
    class Broken(Case):
        def predict(self, *_):
            raise RuntimeError("no such layer")

    broken = Broken(**vars(replace(ldm_case, images=shapes.images)))
    diagnosis = examine(broken)
    behaviour = [verdict for verdict in diagnosis.verdicts if "no such layer" in verdict.evidence]
    assert len(behaviour) > 5
    assert {verdict.status for verdict in behaviour} == {"not run"}
    only_broken = Diagnosis("folder", tuple(v for v in diagnosis.verdicts if v.status != "suspect"))
    assert not only_broken.is_judged
    assert "nothing is wrong" not in only_broken.sentence().lower()
    assert only_broken.as_json()["healthy"] is None


def test_what_a_folder_lacks_is_not_missed():
    lacking = Verdict("a", "a", "not run", "it needs a denoiser")
    seen = Verdict("b", "b", "ok", "", sees_common_faults=True)
    assert Diagnosis("folder", (lacking, seen)).is_judged
    assert not Diagnosis("folder", (replace(lacking, sees_common_faults=True),)).is_judged


@pytest.mark.parametrize("lines", [[{"validation_loss": 0.5}] * 30, [{"loss": 0.0}] * 30])
def test_a_log_of_one_kind_of_loss_or_of_zeros_is_read(ldm_case, lines):
    assert run_check(CHECK["stability"], replace(ldm_case, log=lines)).status == "ok"


def test_a_rise_of_the_validation_loss_is_seen_where_no_other_is_logged(ldm_case):
    lines = [{"validation_loss": loss} for loss in [*[0.5] * 27, *[0.8] * 3]]
    assert "rose again" in run_check(CHECK["stability"], replace(ldm_case, log=lines)).title


def test_betas_that_only_one_scheduler_knows_by_name_are_sampled_along(ldm_folder, tmp_path):
    folder = shutil.copytree(ldm_folder, tmp_path / "sigmoid")
    edit_json(folder / "scheduler" / "scheduler_config.json", trained_betas=None, beta_schedule="sigmoid")
    case = open_case(folder)
    assert case.sampled_latents(case.prediction_type).z0.isfinite().all()


def test_a_label_check_says_how_to_name_folders(ldm_case):
    with pytest.raises(NotRun, match="0 to 9"):
        labels.labels_match(replace(ldm_case, num_classes=10))


def test_a_model_that_is_sampled_in_all_steps_is_not_accused_of_what_few_make(ldm_case, shapes):
    case = replace(ldm_case, images=shapes.images)
    wide = KnownLatents(9 * case.stored_latents.z0, None, False, "its own samples")
    vars(case)["_samples"] = {("v_prediction", num_steps): wide for num_steps in (10, 50)}
    assert "may do better" in run_check(CHECK["samples"], case).evidence
    of_few_steps = replace(case, scheduler_config=case.scheduler_config | {"_class_name": "UniPCMultistepScheduler"})
    vars(of_few_steps)["_samples"] = vars(case)["_samples"]
    assert run_check(CHECK["samples"], of_few_steps).status == "suspect"
