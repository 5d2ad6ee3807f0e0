"""Twins: what differs in network and target alone, and how much of a difference the training seeds allow to claim."""

import json
import shutil

import pytest

from ldm_explorer.evaluation.cost import measure_cost
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.size_measures import FAMILY
from ldm_explorer.explore.twins import NO_TWINS, answer, read_twins
from ldm_explorer.figures.twins import twins_figure
from ldm_explorer.run_files import update_metrics
from ldm_explorer.ui import flow_lens
from ldm_explorer.ui.flow_lens import LensSettings
from ldm_explorer.ui.sizes import twins as part
from ldm_explorer.ui.sizes.compared import Compared

BETAS = {"dataset": "fashion_mnist", "schedule": "cosine", "prediction": "v_prediction"}
FLOW = BETAS | {"schedule": "flow", "prediction": "flow"}


@pytest.fixture(scope="module")
def made(ldm_folder, transformer_folder, tmp_path_factory):
    """A library of a family of one shape, with twins of made figures."""

    def library(**distances: float) -> Library:
        family = tmp_path_factory.mktemp("twins") / FAMILY
        kinds = {
            "size-8x8x4": (ldm_folder, BETAS),
            "flow": (ldm_folder, FLOW),
            "flow-again": (ldm_folder, FLOW),
            "transformer": (transformer_folder, BETAS),
        }
        for name, (folder, config) in kinds.items():
            fd = distances.get(name.replace("-", "_").replace("size_8x8x4", "base"))
            if fd is None:
                continue
            shutil.copytree(folder, family / name)
            (family / name / "train_config.json").write_text(json.dumps(config))
            training = {"cpu_minutes": 36.0, "parameters": 2_840_000, "autoencoder": {"sha256": "same"}}
            update_metrics(family / name, "training", training)
            generation = {"sampler": "unipc", "evaluations": 10, "fd_percent": fd, "fd_percent_spread": 0.02}
            update_metrics(family / name, "evaluation", {"generation": generation | {"fd_floor_percent": 0.04}})
        return open_library(family.parent)

    return library


def test_a_difference_is_claimed_beyond_the_spread_of_training_seeds_alone(made):
    library = made(base=0.6, flow=0.5, flow_again=0.62, transformer=0.9)
    twins = read_twins(library, "size-8x8x4")
    assert twins.spread == pytest.approx(0.12 / 0.56)
    assert [(twin.label, twin.names) for twin in twins.twins] == [
        ("UNet, cosine, velocity", ("size-8x8x4",)),
        ("UNet, flow, flow velocity", ("flow", "flow-again")),
        ("transformer, cosine, velocity", ("transformer",)),
    ]
    said = answer(twins)
    assert "**UNet, flow, flow velocity** generates no differently beyond luck (0.6 → 0.56 %)" in said
    assert "**transformer, cosine, velocity** generates **worse** (0.6 → 0.9 %)" in said
    assert "of training and of sampling, move feature FD by 21%, measured on UNet, flow, flow velocity" in said


def test_sampling_seeds_count_where_they_move_more_than_those_of_training(made):
    library = made(base=0.6, flow=0.5, flow_again=0.501)
    library.get("flow").metrics["evaluation"]["generation"]["fd_percent_spread"] = 0.25
    assert read_twins(library, "size-8x8x4").spread == pytest.approx(0.25 / 0.5005)


def test_the_lens_leads_to_a_flow_that_was_trained(made):
    chosen = LensSettings(checkpoint="size-8x8x4", class_name="Bag", seed=3, steps=1)
    ((words, _),) = flow_lens.answer(made(base=0.6, flow=0.5, flow_again=0.62), chosen, None)
    assert "room=denoising&amp;checkpoint=size-8x8x4&amp;b.checkpoint=flow&amp;class_name=Bag&amp;seed=3" in words
    assert "Feature FD is 0.6 % along cosine and 0.56 % as a flow" in words.replace("\n", " ")
    ((words, _),) = flow_lens.answer(made(base=0.6, transformer=0.5), chosen, None)
    assert "Where it was done" not in words


def test_without_a_second_seed_nothing_is_claimed(made):
    assert "no difference between them is claimed" in answer(read_twins(made(base=0.6, flow=0.1), "size-8x8x4"))


def test_another_number_of_evaluations_is_not_compared(made):
    library = made(base=0.6, flow=0.5, flow_again=0.62, transformer=0.9)
    run = library.get("transformer")
    run.metrics["evaluation"]["generation"]["evaluations"] = 25
    said = answer(read_twins(library, "size-8x8x4"))
    assert "flow" in said
    assert "transformer" not in said


def test_one_of_a_kind_has_no_twins(made):
    library = made(base=0.6)
    assert read_twins(library, "size-8x8x4") is None
    assert list(part.answer(library, Compared(checkpoint="size-8x8x4"), None)) == [(NO_TWINS, None, "")]


@pytest.mark.parametrize("broken", [{"training": 3}, {"evaluation": []}, {"training": {"autoencoder": "x"}}])
def test_what_is_stored_otherwise_is_no_twin(made, broken):
    library = made(base=0.6, flow=0.5, flow_again=0.62, transformer=0.9)
    library.get("flow").metrics.update(broken)
    assert [twin.names for twin in read_twins(library, "size-8x8x4").twins][1] == ("flow-again",)


def test_every_training_is_a_point_of_its_own_and_a_row_of_the_table(made):
    twins = read_twins(made(base=0.6, flow=0.5, flow_again=0.62), "size-8x8x4")
    points = {trace.customdata[0]: trace for trace in twins_figure(twins).data if trace.customdata is not None}
    assert points["flow"].x == (0.5, 0.62)
    assert points["flow"].error_x.array == (0.01, 0.01)
    floor = next(trace for trace in twins_figure(twins).data if trace.name and trace.name.startswith("floor"))
    assert floor.x == (0.04, 0.04)
    gflops = round(twins.twins[1].gflops_per_image, 4)
    assert twins.csv().splitlines()[2] == f"flow,UNet,flow,flow velocity,0.5,0.02,36.0,{gflops}"


def test_what_an_image_costs_is_said_of_each_network_once(made):
    library = made(base=0.6, flow=0.5, flow_again=0.62, transformer=0.9)
    unet, transformer = (measure_cost(library.get(name)).per_sample(10) for name in ("flow", "transformer"))
    said = answer(read_twins(library, "size-8x8x4"))
    assert f"An image costs {unet:.3g} GFLOP with the UNet of 2.8 M parameters and {transformer:.3g} GFLOP with" in said
    assert said.count("GFLOP") == 2
