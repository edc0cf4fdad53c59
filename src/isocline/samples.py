"""Inside ``torch.vmap``: each of its samples is solved with steps of its own, like a lane."""

import torch
from torch import Tensor

from isocline.field import Field
from isocline.times import Times
from isocline.transforms import batched, vmapping


def in_every_sample(field: Field, y0: Tensor, times: Times) -> tuple[Tensor, Times]:
    """Return y0 (L, n) and times that differ between samples if anything does that the solve depends on.

    Then times, step sizes, errors and statuses do, too. What f closes over nobody can see, so it is evaluated once.
    """
    if not vmapping():
        return y0, times
    with torch.no_grad():
        f0 = field(times.values[0], y0)
    parts = f0[:, 0], y0[:, 0], times.values[0]
    if not any(map(batched, parts)):
        return y0, times
    zero = torch.stack([torch.zeros_like(part, dtype=times.values.dtype) for part in parts]).sum(dim=0)
    return y0 + zero.to(y0.dtype).unsqueeze(1), Times(times.values + zero, times.shared, None)
