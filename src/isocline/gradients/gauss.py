"""The continuous adjoint along the forward's interpolant, with Gauss's quadrature for the parameters."""

from dataclasses import dataclass

from isocline.gradients.along import Along


@dataclass(frozen=True)
class GaussAdjoint(Along):
    r"""``InterpolatingAdjoint`` with the parameters' gradients by Gauss-Legendre quadrature over each backward step.

    ``dL/dtheta = sum over steps of h sum_i w_i a(t_i)^T df/dtheta(t_i, y(t_i))``, with a and y by their interpolants at
    the points t_i: half as many as the order of the method, which is as accurate as it is. So f is differentiated by
    its parameters at a few points of each accepted step, instead of in every stage of every attempt: fewer such
    products, but an evaluation for each. It pays where the product with df/dtheta costs much more than that with df/dy,
    where steps are rejected, and with methods of many stages.

    Args:
        method: name or solver for the backward solve; None is the forward's. Any but ``SciPy`` and methods for pairs.
        rtol: its relative tolerance; None is the forward's.
        atol: its absolute tolerance, in the units of a; None is the forward's.
        controller: its controller instead of tolerances. A custom norm gets the scaled error of a, (L, n).
        max_steps: most attempted backward steps, not counting one for each save time and block; None is the forward's.
        checkpoints: as for ``InterpolatingAdjoint``.

    Raises:
        SolveError: in backward, when the adjoint cannot be solved.

    References:
        Norcliffe & Deisenroth 2023, Faster Training of Neural ODEs Using Gauss-Legendre Quadrature, arXiv:2308.10644.

    Example:
        >>> import isocline as iso, torch
        >>> net = torch.nn.Linear(2, 2)
        >>> sol = iso.solve(lambda t, y: net(y), torch.ones(2), (0.0, 1.0), gradient=iso.GaussAdjoint())
        >>> sol.ys[-1].sum().backward()
        >>> net.weight.grad.shape
        torch.Size([2, 2])
    """

    @property
    def weighs(self) -> bool:
        """No."""
        return False
