"""Flows that the tests share, in float64, away from where they do nothing."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import isocline as iso
from isocline.models.flows import (
    CNF,
    Concat,
    FFJORDField,
    Flow,
    HamiltonianField,
    PlanarField,
    PlanarFlow,
)

TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def double(make: Callable[[], nn.Module], gain: float = 2.0) -> nn.Module:
    """Make a module from seed 0, in float64, with larger weights, so that it bends space."""
    torch.manual_seed(0)
    module = make().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(gain)
    return module


FIELDS: dict[str, Callable[[], nn.Module]] = {
    "planar": lambda: double(lambda: PlanarField(2, units=8), 1.2),
    "hamiltonian": lambda: double(lambda: HamiltonianField(FFJORDField(1, (16,)), FFJORDField(1, (16,)))),
    "concat-squash": lambda: double(lambda: FFJORDField(2, (16, 16)), 1.5),
    "concat": lambda: double(lambda: FFJORDField(2, (16, 16), mix=Concat), 1.5),
}


def blocks() -> Flow:
    return CNF([FIELDS["planar"](), FIELDS["concat-squash"]()], 2, **TIGHT).double()


def conditional() -> Flow:
    field = double(lambda: FFJORDField(2, (16,), context=3), 1.5)
    return CNF(field, 2, **TIGHT).double().given(draw(3, seed=1))


def planar_flow(closed_form: Any) -> Flow:
    flow = PlanarFlow(2, layers=6, closed_form=closed_form).double()
    with torch.no_grad():
        for index, parameter in enumerate(flow.parameters()):
            parameter.copy_(0.5 * draw(*parameter.shape, seed=10 + index))
    return flow


def continuous(name: str, **settings: Any) -> CNF:
    return CNF(FIELDS[name](), 2, **{**TIGHT, **settings}).double()


FLOWS: dict[str, Callable[[], Flow]] = {
    **{name: (lambda name=name: continuous(name)) for name in FIELDS},
    "per sample": lambda: continuous("planar", batch_dims=1),
    "blocks": blocks,
    "conditional": conditional,
    "planar flow to data": lambda: planar_flow("to_data"),
    "planar flow to noise": lambda: planar_flow("to_noise"),
    "regularised": lambda: CNF(iso.Regularised(FIELDS["planar"](), kinetic=True), 2, **TIGHT).double(),
}


class Linear(nn.Module):
    """dz/dt = A z."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return z @ self.matrix.mT
