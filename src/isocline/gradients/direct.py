"""Autograd through the loop."""

from dataclasses import dataclass

from isocline.gradients.base import Gradient, run
from isocline.gradients.node import attach
from isocline.gradients.recorded import Recorded
from isocline.problem import Outputs, Problem


@dataclass(frozen=True)
class DirectAdjoint(Gradient):
    """Differentiate straight through the accepted steps with autograd.

    The gradient is that of the discrete solution (step sizes held fixed), of any order: ``create_graph=True`` works.
    Every evaluation of f on an accepted step stays in memory until backward: O(steps). Rejected attempts leave nothing.

    Example:
        >>> import isocline as iso, torch
        >>> y0 = torch.ones(1, dtype=torch.float64, requires_grad=True)
        >>> sol = iso.solve(lambda t, y: -y**2, y0, (0.0, 1.0), rtol=1e-8, atol=1e-8, gradient=iso.DirectAdjoint())
        >>> (g,) = torch.autograd.grad(sol.ys[-1], y0, create_graph=True)
        >>> (h,) = torch.autograd.grad(g, y0)
        >>> round(h.item(), 4)  # y(1) = y0 / (1 + y0), so -2 / (1 + y0)^3
        -0.25
    """

    def solve(self, problem: Problem) -> Outputs:
        """Run the loop with autograd watching, or, compiled, record the steps and differentiate each backwards."""
        return run(problem) if problem.traced is None else attach(problem, Recorded(problem.traced, keep=True))
