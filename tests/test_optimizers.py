from dataclasses import replace

import pytest
import torch
from helpers import same_weights
from torch import nn
from toy_training import CONFIG, Regression, train

from ldm_explorer.models import TransformerConfig, UNetConfig
from ldm_explorer.networks import conditioning_weights
from ldm_explorer.training.optimizers import (
    ADAM_BETAS,
    MIN_RANK,
    NEWTON_SCHULZ,
    NEWTON_SCHULZ_STEPS,
    Muon,
    make_optimizer,
    orthogonalise,
)
from ldm_explorer.training.tasks.denoiser_config import LDMTrainConfig


class DeepRegression(Regression):
    """Its middle layer is large enough for Muon."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))


def stepped(make_optimizer, shape: tuple[int, ...], steps: int = 5) -> torch.Tensor:
    """A parameter after some steps along gradients that do not depend on it."""
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(shape, generator=generator))
    optimizer = make_optimizer([parameter])
    for _ in range(steps):
        parameter.grad = torch.randn(shape, generator=generator)
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(16, 16), (12, 40), (40, 12)])
def test_orthogonalising_keeps_the_singular_directions_and_evens_their_lengths(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    in_its_directions = u.T @ orthogonalise(matrix) @ vh.T
    lengths = in_its_directions.diag()
    assert lengths.min() > 0.3
    assert lengths.max() < 1.3
    assert (in_its_directions - lengths.diag()).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (12, 20)])
def test_by_the_products_of_its_rows_a_matrix_becomes_what_the_iteration_makes_of_it(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    matrix[:, 0] = 0
    x, (a, b, c) = (matrix / matrix.norm()).double(), NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    assert torch.allclose(orthogonalise(matrix).double(), x, atol=1e-4)


@pytest.mark.parametrize("config", [UNetConfig(8, 4, 10, (32, 32)), TransformerConfig(8, 4, 10, 32, 2)])
def test_weights_that_see_one_vector_of_an_image_step_by_adam(config):
    """Those and no others, of all linear layers and embeddings."""
    network, seen = config.build(), {}

    def see(module, given, _):
        seen[module] = given[0].ndim

    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.register_forward_hook(see)
    z, t, labels = torch.zeros(3, 4, 8, 8), torch.arange(3), torch.arange(3)
    network(z, t, class_labels=labels)
    one_vector = {id(module.weight) for module, ndim in seen.items() if ndim < 3}
    named = {id(weight) for weight in conditioning_weights(network) if weight.ndim > 1}
    assert one_vector == named
    optimizer = make_optimizer(LDMTrainConfig(), network)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for parameter in network.parameters():
        by_adam = id(parameter) in named or min(parameter.shape[0], parameter[0].numel()) < MIN_RANK
        assert set(optimizer.state[parameter]) == ({"step", "exp_avg", "exp_avg_sq"} if by_adam else {"momentum"})


def test_a_run_goes_on_whose_conditioning_weights_were_muons():
    weight = nn.Parameter(torch.ones(16, 16))
    weight.grad = torch.ones_like(weight)
    earlier, optimizer = Muon([weight], 0.1), Muon([weight], 0.1, by_adam=[weight])
    earlier.step()
    optimizer.load_state_dict(earlier.state_dict())
    before = weight.detach().clone()
    optimizer.step()
    assert torch.allclose(before - weight, torch.tensor(0.1))


@pytest.mark.parametrize("momentum", [0.8, 0.95])
def test_a_matrix_steps_as_with_the_muon_of_pytorch(momentum):
    reference = getattr(torch.optim, "Muon", None) or pytest.skip("this PyTorch has no Muon")
    ours = stepped(lambda p: Muon(p, 0.1, 0.01, momentum), (16, 24))
    options = {"weight_decay": 0.01, "momentum": momentum, "adjust_lr_fn": "match_rms_adamw"}
    theirs = stepped(lambda p: reference(p, lr=0.1, **options), (16, 24))
    start = stepped(lambda p: Muon(p, 0.0), (16, 24))
    assert (ours - theirs).norm() < 0.02 * (theirs - start).norm()  # theirs iterates in bf16


def test_a_convolution_is_the_matrix_of_its_outputs():
    convolution = stepped(lambda p: Muon(p, 0.1), (16, 8, 3, 3))
    assert torch.equal(convolution.flatten(1), stepped(lambda p: Muon(p, 0.1), (16, 72)))


@pytest.mark.parametrize("shape", [(30,), (MIN_RANK - 1, 40), (1, 3, 3, 3)])
def test_vectors_and_thin_matrices_step_as_with_adamw(shape):
    theirs = stepped(lambda p: torch.optim.AdamW(p, 0.1, ADAM_BETAS, weight_decay=0.01), shape)
    assert torch.allclose(stepped(lambda p: Muon(p, 0.1, 0.01), shape), theirs, atol=1e-6)


def test_what_steps_together_on_a_gpu_steps_as_each_by_itself():
    """A convolution and a matrix that are alike as matrices, a tall one, and vectors; rates and counts are tensors."""
    shapes = [(16, 8, 3, 3), (16, 72), (72, 16), (16, 8, 3, 3), (16,), (1, 3)]
    alone = [stepped(lambda p: Muon(p, 0.1, 0.01), shape) for shape in shapes]
    generators = [torch.Generator().manual_seed(0) for _ in shapes]
    draw = [
        lambda shape=shape, one=one: torch.randn(shape, generator=one)
        for shape, one in zip(shapes, generators, strict=True)
    ]
    parameters = [nn.Parameter(drawn()) for drawn in draw]
    optimizer = Muon(parameters, torch.tensor(0.1), 0.01, capturable=True)
    for _ in range(5):
        for parameter, drawn in zip(parameters, draw, strict=True):
            parameter.grad = drawn()
        optimizer.step()
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(parameters, alone, strict=True))


def test_a_parameter_without_gradient_stays():
    parameter = nn.Parameter(torch.ones(9, 9))
    Muon([parameter], 0.1, 0.1).step()
    assert torch.equal(parameter, torch.ones(9, 9))


def test_a_closure_computes_the_gradients_of_its_step():
    ours, theirs = nn.Parameter(torch.ones(9, 9)), nn.Parameter(torch.ones(9, 9))
    optimizer = Muon([ours], 0.1)

    def closure() -> torch.Tensor:
        loss = ours.cumsum(0).square().sum()
        loss.backward()
        return loss.detach()

    assert float(optimizer.step(closure)) == 9 * sum(row**2 for row in range(1, 10))
    theirs.cumsum(0).square().sum().backward()
    Muon([theirs], 0.1).step()
    assert torch.equal(ours, theirs)


def test_training_with_muon_learns_and_resumes_bit_for_bit(accelerator, tmp_path):
    config = replace(CONFIG, optimizer="muon", max_steps=100)
    steps, whole, _ = train(DeepRegression(), config, accelerator, tmp_path / "whole")
    losses = [step.record["loss"] for step in steps]
    assert sum(losses[-10:]) < 0.1 * sum(losses[:10])
    train(DeepRegression(), config, accelerator, tmp_path / "parts", stop_after=37)
    _, resumed, _ = train(DeepRegression(), replace(config, resume=True), accelerator, tmp_path / "parts")
    assert same_weights(resumed, whole)
