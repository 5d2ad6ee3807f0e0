"""The optimizers: AdamW, and Muon, whose steps go equally far in all directions of a weight matrix."""

import math
from collections.abc import Collection, Hashable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ldm_explorer.networks import conditioning_weights
from ldm_explorer.training.config import FitConfig

ADAM_BETAS = (0.9, 0.99)
ADAM_EPSILON = 1e-8
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
GRAM_PAYS = 2
"""A matrix more than so many times as wide as it is high takes less work by the products of its rows."""
RMS_OF_ADAM = 0.2
MIN_RANK = 8


def make_optimizer(config: FitConfig, model: nn.Module, capturable: bool = False) -> Optimizer:
    """The optimizer of the options.

    A `capturable` one has its learning rate and its counts of steps in tensors beside the weights: a CUDA graph can
    hold its step, and a step that is launched without one waits for no GPU.
    """
    parameters = list(model.parameters())
    rate: float | Tensor = config.peak_learning_rate
    if capturable:
        rate = torch.tensor(rate, device=parameters[0].device)
    if config.optimizer == "muon":
        by_adam = conditioning_weights(model)
        return Muon(parameters, rate, config.weight_decay, config.muon_momentum, capturable, by_adam)
    decay = config.weight_decay
    return AdamW(parameters, rate, ADAM_BETAS, weight_decay=decay, fused=True, capturable=capturable)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give all weights a learning rate, in the tensor where it is one: a CUDA graph reads it there."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def orthogonalise(matrix: Tensor) -> Tensor:
    """`(R, C)`, or `(N, R, C)` that are many, to nearly the U V^T of the singular value decomposition: singular values
    between 0.7 and 1.2.

    A quintic Newton-Schulz iteration (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks").
    """
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    if x.shape[-1] > GRAM_PAYS * x.shape[-2]:
        x = _factor(x @ x.mT) @ x
    else:
        for _ in range(NEWTON_SCHULZ_STEPS):
            x = _factor(x @ x.mT, 1) @ x
    return x.mT if tall else x


def _factor(gram: Tensor, steps: int = NEWTON_SCHULZ_STEPS) -> Tensor:
    """What so many steps multiply x by, `(R, R)`, from `gram` = x x^T alone.

    Each multiplies by a + b gram + c gram^2, which says what the next gram is: a wide x is gone through twice in all.
    """
    factor = product = _step(gram)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor
        factor = _step(gram)
        product = factor @ product
    return product


def _step(gram: Tensor) -> Tensor:
    a, b, c = NEWTON_SCHULZ
    factor = (torch.addmm if gram.ndim == 2 else torch.baddbmm)(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


class Muon(Optimizer):
    """Muon for weights that are matrices of rank 8 or more, Adam for all others, with one learning rate and decay.

    Adam also takes those of `by_adam`: weights that see one vector of an image, of its timestep and class, have
    gradients of no higher rank than the batch, and of a UNet's step Muon took an eighth for them.

    A convolution `(out, in, k, k)` is the matrix `(out, in * k * k)`. An orthogonal update is scaled by
    0.2 sqrt(larger side), to the root mean square of Adam's updates (Liu et al. 2025, arXiv 2502.16982, section 2.2),
    so both kinds of weights follow one learning rate. Weight decay is decoupled. `capturable` is what it is for
    PyTorch's optimizers, and `lr` is a tensor then.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float | Tensor,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        capturable: bool = False,
        by_adam: Collection[nn.Parameter] = (),
    ):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "capturable": capturable})
        self.momentum = momentum
        self.by_adam = {id(parameter) for parameter in by_adam}

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step from the gradients that are there, or that `closure` computes; returns the loss it returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate, capturable = group["lr"], group["capturable"]
            given = [parameter for parameter in group["params"] if parameter.grad is not None]
            for alike in self._alike(given, capturable):
                gradients: list[Any] = [parameter.grad for parameter in alike]
                states = [self.state[parameter] for parameter in alike]
                is_matrix = self._matrix_shape(alike[0]) is not None
                updates = _muon(gradients, states, self.momentum) if is_matrix else _adam(gradients, states, capturable)
                torch._foreach_mul_(alike, 1 - rate * group["weight_decay"])
                if capturable:
                    torch._foreach_mul_(updates, rate)
                    torch._foreach_sub_(alike, updates)
                else:
                    torch._foreach_add_(alike, updates, alpha=-rate)
        return loss

    def _matrix_shape(self, parameter: Tensor) -> tuple[int, int] | None:
        """(R, C) of a weight that Muon takes, else None."""
        shape = parameter.shape[0] if parameter.ndim else 1, math.prod(parameter.shape[1:])
        return shape if min(shape) >= MIN_RANK and id(parameter) not in self.by_adam else None

    def _alike(self, parameters: list[Tensor], on_gpu: bool) -> list[list[Tensor]]:
        """Parameters by those that step together: all that are Adam's; the matrices of each shape on a GPU, which is
        faster with few large kernels; and each matrix by itself on a CPU, in whose cache it lies then."""
        alike: dict[Hashable, list[Tensor]] = {}
        for index, parameter in enumerate(parameters):
            shape = self._matrix_shape(parameter)
            alike.setdefault(shape if on_gpu or shape is None else index, []).append(parameter)
        return list(alike.values())


def _muon(gradients: list[Tensor], states: list[dict[str, Tensor]], momentum: float) -> list[Tensor]:
    for gradient, state in zip(gradients, states, strict=True):
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
    momenta = [state["momentum"] for state in states]
    torch._foreach_lerp_(momenta, gradients, 1 - momentum)
    directions = torch._foreach_lerp(gradients, momenta, momentum)  # Nesterov's
    matrices = [direction.flatten(1) for direction in directions]
    many = len(matrices) > 1
    orthogonal = orthogonalise(torch.stack(matrices) if many else matrices[0])
    updates = orthogonal * RMS_OF_ADAM * max(matrices[0].shape) ** 0.5
    return [update.view_as(one) for update, one in zip(updates if many else [updates], gradients, strict=True)]


def _adam(gradients: list[Tensor], states: list[dict[str, Tensor]], capturable: bool) -> list[Tensor]:
    for gradient, state in zip(gradients, states, strict=True):
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=gradient.device if capturable else "cpu")
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    steps, means, squares = ([state[slot] for state in states] for slot in ("step", "exp_avg", "exp_avg_sq"))
    torch._foreach_add_(steps, 1)
    torch._foreach_lerp_(means, gradients, 1 - ADAM_BETAS[0])
    torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - ADAM_BETAS[1])
    updates, roots = (
        torch._foreach_div(slots, 1 - beta ** steps[0] if capturable else [1 - beta ** float(step) for step in steps])
        for slots, beta in zip((means, squares), ADAM_BETAS, strict=True)
    )
    torch._foreach_sqrt_(roots)
    torch._foreach_add_(roots, ADAM_EPSILON)
    torch._foreach_div_(updates, roots)
    return list(updates)
