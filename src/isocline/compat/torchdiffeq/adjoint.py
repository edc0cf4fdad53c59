"""``odeint_adjoint``: gradients by the adjoint equations."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import isocline as iso
from isocline.compat.torchdiffeq.callbacks import callbacks
from isocline.compat.torchdiffeq.methods import DEFAULT, Method
from isocline.compat.torchdiffeq.norms import as_adjoint_rows, of_adjoint, of_row
from isocline.compat.torchdiffeq.odeint import results
from isocline.compat.torchdiffeq.setup import Setup, find_method, make_setup, with_grid
from isocline.compat.torchdiffeq.solving import shown
from isocline.compat.torchdiffeq.stepping import stepping


def odeint_adjoint(
    func: Callable[..., Any],
    y0: Any,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[..., Tensor] | None = None,
    adjoint_rtol: Any = None,
    adjoint_atol: Any = None,
    adjoint_method: str | None = None,
    adjoint_options: dict[str, Any] | None = None,
    adjoint_params: Iterable[Tensor] | None = None,
) -> Any:
    """Solve as ``odeint`` does, and differentiate by solving the adjoint equations backwards, in O(1) memory.

    Explicit methods are solved backwards by ``isocline.BacksolveAdjoint``. For implicit ones the gradient is the exact
    one of their steps, by ``isocline.RecursiveCheckpointAdjoint``: solving a stiff problem backwards is unstable.

    Args:
        func: as in ``odeint``; a module, unless ``adjoint_params`` is given.
        y0: as in ``odeint``.
        t: likewise.
        rtol: likewise.
        atol: likewise.
        method: likewise.
        options: likewise.
        event_fn: likewise.
        adjoint_rtol: relative tolerance of the backward solve; None is ``rtol``.
        adjoint_atol: absolute tolerance of the backward solve; None is ``atol``.
        adjoint_method: its method; None is ``method``.
        adjoint_options: its options; None is ``options`` without the norm. The norm is "seminorm", or gets the tuple
            (t, y, adj_y, *params), with y and adj_y unpacked if y0 is a tuple.
        adjoint_params: tensors to differentiate besides y0 and t; None is the parameters of func.

    Returns:
        As ``odeint``. The packed states' autograd node has the ``adjoint_options`` in use.

    Raises:
        ValueError: no parameters are known, or options do not fit.
        AssertionError: as in ``odeint``.
        SolveError: in backward, if the adjoint equations cannot be solved.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366; Kidger, Chen & Lyons 2021, arXiv:2009.09457
        (seminorm).

    Example:
        >>> import torch
        >>> from isocline.compat.torchdiffeq import odeint_adjoint
        >>> net = torch.nn.Linear(2, 2)
        >>> class Field(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = torch.nn.Linear(2, 2)
        ...     def forward(self, t, y):
        ...         return self.net(y)
        >>> field = Field()
        >>> odeint_adjoint(field, torch.ones(2), torch.tensor([0.0, 1.0]))[-1].sum().backward()
        >>> field.net.weight.grad.shape
        torch.Size([2, 2])
    """
    if adjoint_params is not None:
        listed = tuple(adjoint_params)
    elif isinstance(func, nn.Module):
        listed = tuple(find_parameters(func))
    else:
        raise ValueError(
            "func must be an instance of nn.Module to specify the adjoint parameters; alternatively they can be "
            "specified explicitly via the `adjoint_params` argument. If there are no parameters then it is allowable "
            "to set `adjoint_params=()`."
        )
    if adjoint_method is not None and adjoint_method != method and options is not None and adjoint_options is None:
        raise ValueError(
            "If `adjoint_method != method` then we cannot infer `adjoint_options` from `options`. So as `options` has "
            "been passed then `adjoint_options` must be passed as well."
        )
    params = tuple(x for x in listed if x.requires_grad)
    if adjoint_options is None:
        adjoint_options = {key: value for key, value in (options or {}).items() if key != "norm"}
    if len(params) < len(listed) and callable(adjoint_options.get("norm")):
        warnings.warn(
            "An adjoint parameter was passed without requiring gradient. For efficiency this will be excluded from the "
            "adjoint pass, and will not appear as a tensor in the adjoint norm.",
            stacklevel=2,
        )
    setup = make_setup(func, y0, t, rtol, atol, method, options, event_fn is not None)
    structure = setup.structure
    back = Backward(
        setup,
        find_method(adjoint_method or method),
        adjoint_method or method or DEFAULT,
        {**adjoint_options, "norm": of_adjoint(adjoint_options, setup.norm, structure)},
        setup.rtol if adjoint_rtol is None else structure.tolerance("adjoint_rtol", adjoint_rtol),
        setup.atol if adjoint_atol is None else structure.tolerance("adjoint_atol", adjoint_atol),
        params,
    )
    watching = callbacks(func, setup.method, method or DEFAULT, shown(setup))

    def mark(ys: Tensor) -> Tensor:
        if not ys.requires_grad:
            return ys
        marked: Tensor = _Node.apply(ys, back.options, *params)
        return marked

    return results(setup, event_fn, watching, mark, back.gradient(), params)


@dataclass(frozen=True)
class Backward:
    """How the adjoint is solved."""

    setup: Setup
    method: Method
    name: str
    options: dict[str, Any]
    """In which the norm is looked up at each step, because the caller can reach it."""
    rtol: Any
    atol: Any
    params: tuple[Tensor, ...]

    def gradient(self) -> iso.Gradient:
        """Return it for ``isocline.solve``."""
        setup = self.setup
        known = self.method.known(self.name, self.options)
        if not self.method.choose(known).integrates:
            return iso.RecursiveCheckpointAdjoint()
        times = setup.t.detach()
        options = with_grid(known, setup.func, setup.structure.unpack(setup.y0.detach()))
        if "grid_constructor" in options:
            options["grid_constructor"] = _from_time_to_time(options["grid_constructor"])
        norm = as_adjoint_rows(self.options, setup.y0.detach(), self.params)
        how = stepping(self.method, options, self.rtol, self.atol, norm, setup.y0, times.flip(0))
        # With fixed steps torchdiffeq begins anew at each time.
        more = times[1:-1] if self.method.fixed else how.jump_t
        marks = [x for x in (how.step_t, more) if x is not None and len(x)]
        return iso.BacksolveAdjoint(
            method=how.solver,
            controller=how.controller,
            max_steps=how.max_steps * max(len(times) - 1, 1),
            step_ts=tuple(torch.cat(marks).tolist()) if marks else (),
            observers=callbacks(setup.func, self.method, self.name, self._shown, suffix="_adjoint"),
        )

    def _shown(self, rows: Tensor) -> Any:
        """Return the adjoint's state as torchdiffeq has it; what is integrated beside it is zero."""
        y, a = (of_row(part, self.setup.y0) for part in rows.tensor_split(2, dim=1))
        return rows.new_zeros(()), y, a, *(torch.zeros_like(x) for x in self.params)


def _from_time_to_time(make: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a grid that is made anew between neighbouring times, as torchdiffeq's adjoint does."""

    def grid(t: Tensor) -> Tensor:
        parts = [make(torch.stack(pair)) for pair in pairwise(t.unbind())]
        return torch.cat([*(part[:-1] for part in parts), parts[-1][-1:]])

    return grid


def find_parameters(module: nn.Module) -> list[Tensor]:
    """Return a module's parameters; in a replica of DataParallel they are plain tensors."""
    if not getattr(module, "_is_replica", False):
        return list(module.parameters())
    own = (value for part in module.modules() for value in vars(part).values())
    return [x for x in own if isinstance(x, Tensor) and x.requires_grad]


class _Node(torch.autograd.Function):
    """The states as they are, on a node that has the ``adjoint_options``; parameters not used get zero, not None."""

    @staticmethod
    def forward(ctx: Any, ys: Tensor, options: dict[str, Any], *params: Tensor) -> Tensor:
        ctx.adjoint_options = options
        ctx.zeros = [(x.shape, x.dtype, x.device) for x in params]
        return ys.clone()

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> tuple[Tensor | None, ...]:
        zeros = (torch.zeros((), dtype=dtype, device=device).expand(shape) for shape, dtype, device in ctx.zeros)
        return bars[0], None, *zeros
