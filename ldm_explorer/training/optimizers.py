"""The optimizers: AdamW, and Muon, whose steps go equally far in all directions of a weight matrix."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ldm_explorer.training.config import FitConfig

MOMENTUM = 0.95
ADAM_BETAS = (0.9, 0.99)
ADAM_EPSILON = 1e-8
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
GRAM_PAYS = 2
"""A matrix more than so many times as wide as it is high takes less work by the products of its rows."""
RMS_OF_ADAM = 0.2
MIN_RANK = 8


def make_optimizer(config: FitConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer of the options."""
    rate, decay = config.peak_learning_rate, config.weight_decay
    if config.optimizer == "muon":
        return Muon(parameters, rate, decay)
    return AdamW(parameters, rate, ADAM_BETAS, weight_decay=decay, fused=True)


def orthogonalise(matrix: Tensor) -> Tensor:
    """`(R, C)` to nearly the U V^T of its singular value decomposition: singular values between 0.7 and 1.2.

    A quintic Newton-Schulz iteration (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks").
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    if x.shape[1] > GRAM_PAYS * x.shape[0]:
        x = _factor(x @ x.T) @ x
    else:
        for _ in range(NEWTON_SCHULZ_STEPS):
            x = _factor(x @ x.T, 1) @ x
    return x.T if tall else x


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
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor


class Muon(Optimizer):
    """Muon for weights that are matrices of rank 8 or more, Adam for all others, with one learning rate and decay.

    A convolution `(out, in, k, k)` is the matrix `(out, in * k * k)`. An orthogonal update is scaled by
    0.2 sqrt(larger side), to the root mean square of Adam's updates (Liu et al. 2025, arXiv 2502.16982, section 2.2),
    so both kinds of weights follow one learning rate. Weight decay is decoupled.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step from the gradients that are there, or that `closure` computes; returns the loss it returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                is_matrix = parameter.ndim > 1 and min(parameter.shape[0], parameter[0].numel()) >= MIN_RANK
                update = (self._muon if is_matrix else self._adam)(parameter.grad, self.state[parameter])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"])
        return loss

    def _muon(self, gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        direction = gradient.lerp(state["momentum"], MOMENTUM).flatten(1)  # Nesterov's
        return (orthogonalise(direction) * RMS_OF_ADAM * max(direction.shape) ** 0.5).view_as(gradient)

    def _adam(self, gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] += 1
        state["exp_avg"].lerp_(gradient, 1 - ADAM_BETAS[0])
        state["exp_avg_sq"].lerp_(gradient.square(), 1 - ADAM_BETAS[1])
        mean, square = (
            state[slot] / (1 - beta ** float(state["step"]))
            for slot, beta in zip(("exp_avg", "exp_avg_sq"), ADAM_BETAS, strict=True)
        )
        return mean / (square.sqrt() + ADAM_EPSILON)
