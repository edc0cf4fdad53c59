"""Which noise goes with which data point, at the least cost."""

import torch
from torch import Tensor


@torch.no_grad()
def minibatch_optimal_transport(x0: Tensor, x1: Tensor) -> Tensor:
    """Return the rows of x0 in the order in which they are nearest to x1: the least sum of squared distances.

    Between two batches of one size whose points weigh the same, an optimal transport plan is a permutation, so an exact
    assignment is all of it. Paths between such pairs cross less, so that the field is easier to learn and to solve. It
    runs on the CPU in O(B^3): some milliseconds for 256 rows.

    Args:
        x0: noise, (B, *event).
        x1: data, (B, *event).

    Raises:
        ImportError: SciPy is not installed.

    References:
        Tong et al. 2023, Improving and generalizing flow-based generative models with minibatch optimal transport,
        arXiv:2302.00482; Crouse 2016, doi:10.1109/TAES.2016.140952 (the algorithm).

    Example:
        >>> import torch
        >>> from isocline.models.flows import minibatch_optimal_transport
        >>> minibatch_optimal_transport(torch.tensor([[0.0], [5.0]]), torch.tensor([[4.0], [1.0]]))
        tensor([[5.],
                [0.]])
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise ImportError("minibatch_optimal_transport needs SciPy; install isocline[scipy]") from None
    costs = torch.cdist(x1.flatten(1).double(), x0.flatten(1).double()).square()
    _, order = linear_sum_assignment(costs.cpu().numpy())
    return x0[torch.as_tensor(order, device=x0.device)]
