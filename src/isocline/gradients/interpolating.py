"""The continuous adjoint along the forward solve's own interpolant."""

from dataclasses import dataclass

from isocline.gradients.along import Along


@dataclass(frozen=True)
class InterpolatingAdjoint(Along):
    r"""Solve the adjoint ODE backwards in time, with the state from the forward solve's own interpolant.

    With ``a = dL/dy``: ``da/dt = -a^T df/dy(t, y(t))``, ``dL/dtheta = integral of a^T df/dtheta dt`` from start to end,
    and ``dL/dt_i = dL/dy_i . f(t_i, y_i)`` at each save time, where a jumps by dL/dy_i. The state is not rebuilt
    backwards, so this is as stable as f is forwards: it serves where ``BacksolveAdjoint`` fails, for strongly
    contracting and for chaotic f. Stiff methods solve for a as for y: the Jacobian is ``-(df/dy)^T``.

    The forward pass keeps some of its states; backwards, the steps between two of them (a block) are taken again and
    held with their stages while a goes back through them, each block once. Only a is under error control: parameters
    are a quadrature over the stages of accepted steps (or at Gauss's points, where stages have no weights).

    The gradient is that of the exact solution, up to the tolerances of both solves and the interpolant's error; it is
    *not* the gradient of the discrete solution. First derivatives only. With
    ``compile=True`` such a solve runs eagerly.

    Args:
        method: name or solver for the backward solve; None is the forward's. Any but ``SciPy`` and methods for pairs.
        rtol: its relative tolerance; None is the forward's.
        atol: its absolute tolerance, in the units of a; None is the forward's.
        controller: its controller instead of tolerances. A custom norm gets the scaled error of a, (L, n).
        max_steps: most attempted backward steps, not counting one for each save time and block; None is the forward's.
        checkpoints: None keeps O(sqrt(N)) states of N steps, with blocks of O(sqrt(N)) steps, each step taken again
            once. With a number K at most K states are kept and at most K steps held, however many steps there are;
            steps between kept states are repeated by the binomial schedule.

    Raises:
        SolveError: in backward, when the adjoint cannot be solved.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366 (the adjoint); Hindmarsh et al. 2005, ACM Trans.
        Math. Softw. 31, doi:10.1145/1089014.1089020 (on checkpointed interpolants, in CVODES).

    Example:
        >>> import isocline as iso, torch
        >>> k = torch.tensor(100.0, dtype=torch.float64, requires_grad=True)
        >>> y0 = torch.ones(1, dtype=torch.float64)
        >>> sol = iso.solve(lambda t, y: k * (t.cos() - y), y0, (0.0, 1.0), gradient=iso.InterpolatingAdjoint())
        >>> sol.ys[-1].sum().backward()
        >>> round(1e5 * k.grad.item())  # y(1) is near cos(1) + sin(1) / k
        -8
    """

    @property
    def weighs(self) -> bool:
        """Yes."""
        return True
