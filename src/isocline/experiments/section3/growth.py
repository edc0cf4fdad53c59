"""How memory and time of a training step grow: with depth, or with evaluations of the field."""

import time
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn

import isocline as iso
from isocline.experiments.memory import peak_memory
from isocline.experiments.section3.classifiers import ConvField, residual_blocks

Growing = Literal["resnet", "rknet", "odenet"]


@dataclass(frozen=True)
class Cost:
    """What a forward and a backward pass through the part between stem and head cost.

    Attributes:
        model: Which part.
        size: Residual blocks, or evaluations of the field in the forward pass.
        megabytes: Peak of all tensors that the passes made, the gradients of the parameters included.
        seconds: Median time.
    """

    model: Growing
    size: int
    megabytes: float
    seconds: float


@dataclass(frozen=True)
class Line:
    """The straight line through costs by least squares.

    Attributes:
        start: At size 0.
        slope: For each unit of size.
        flatness: Largest over smallest, less one.
    """

    start: float
    slope: float
    flatness: float


def measured(
    depths: tuple[int, ...], steps: tuple[int, ...], channels: int, batch: int, repeats: int
) -> tuple[Cost, ...]:
    """Costs of ResNets of the depths, and of RK-Nets and ODE-Nets of so many steps of `tsit5` of a fixed size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = torch.randn(batch, channels, 7, 7)
        bodies: list[tuple[Growing, nn.Module]] = [("resnet", residual_blocks(channels, depth)) for depth in depths]
        gradients: dict[Growing, iso.Gradient] = {"rknet": iso.DirectAdjoint(), "odenet": iso.BacksolveAdjoint()}
        bodies += [
            (name, iso.NeuralODE(ConvField(channels), controller=iso.FixedStep(1.0 / n), gradient=gradient))
            for name, gradient in gradients.items()
            for n in steps
        ]
    return tuple(_cost(name, body, start, repeats) for name, body in bodies)


def _cost(name: Growing, body: nn.Module, start: Tensor, repeats: int) -> Cost:
    def passes() -> None:
        end: Tensor = body(start)
        end.square().mean().backward()

    passes()  # makes the gradients, which from here on are there in every step
    megabytes = peak_memory(passes) / 1e6
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        passes()
        seconds.append(time.perf_counter() - began)
    return Cost(name, _size(body), megabytes, median(seconds))


def _size(body: nn.Module) -> int:
    if isinstance(body, iso.NeuralODE):
        assert body.stats is not None
        return int(body.stats.evaluations)
    return len(list(body.children()))


def line(points: list[tuple[int, float]]) -> Line:
    """The line through (size, cost)."""
    sizes, costs = (torch.tensor(part, dtype=torch.float64) for part in zip(*points, strict=True))
    matrix = torch.stack([torch.ones_like(sizes), sizes], dim=1)
    start, slope = torch.linalg.lstsq(matrix, costs.unsqueeze(1)).solution.flatten().tolist()
    return Line(start, slope, float(costs.max() / costs.min()) - 1.0)
