"""Ways to differentiate a solve."""

from isocline.gradients.backsolve import BacksolveAdjoint
from isocline.gradients.base import Gradient
from isocline.gradients.checkpoint import RecursiveCheckpointAdjoint
from isocline.gradients.direct import DirectAdjoint
from isocline.gradients.reversible import ReversibleAdjoint

GRADIENTS: dict[str, Gradient] = {
    "direct": DirectAdjoint(),
    "checkpoint": RecursiveCheckpointAdjoint(),
    "reversible": ReversibleAdjoint(),
    "backsolve": BacksolveAdjoint(),
}
"""One of each with its defaults, by short name; the contract tests run over them."""

__all__ = [
    "GRADIENTS",
    "BacksolveAdjoint",
    "DirectAdjoint",
    "Gradient",
    "RecursiveCheckpointAdjoint",
    "ReversibleAdjoint",
]
