"""What fields depend on besides the state: time, and a context for each sample."""

import torch
from torch import Tensor


def condition(t: Tensor, z: Tensor, context: tuple[Tensor, ...], width: int) -> Tensor:
    """Return time and context side by side: (1, 1) for all samples alike, or (B, 1 + c).

    Args:
        t: 0-d, or (B, 1, ..., 1).
        z: the state (B, *event).
        context: nothing, or one tensor (B, c).
        width: the c that the field was made for.

    Raises:
        ValueError: another context.
    """
    given = sum(x.shape[-1] for x in context)
    if given != width:
        raise ValueError(
            f"the field was made with context={width}, and got {given} numbers a sample; "
            + (f"pass a tensor (B, {width}), as in flow.given(context)" if width else "leave the context out")
        )
    clock = t.reshape(-1, 1)
    return torch.cat([clock.expand(len(z), 1), *context], dim=1) if context else clock
