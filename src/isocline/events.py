"""Events: what may happen on the way, and what is done about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from isocline.checks import check_whole
from isocline.controllers import PID, Tolerance
from isocline.tree import Tree, describe


@dataclass(frozen=True)
class Event:
    r"""Something happens where a function of time and state passes through zero.

    The time is found on the method's own interpolant, to rounding: a change of sign over an accepted step, or between
    points inside it, brackets it. Two crossings closer together than a quarter of a step may go unseen. A solve that
    starts on the surface (and one that goes on there after a jump) has to leave it before it can cross it again. So
    where events pile up towards one time (a ball that comes to rest) the solve passes through in the end: let a lane
    end before, ``terminal=n``, or at an event that says it rests. A state saved at the time of a jump is that before.

    Event times and states are differentiable (first derivatives, not by ``torch.func``) with respect to all that the
    solve depends on, and all tensors that the event function uses: with :math:`g(t, y(t)) = 0`,
    ``dt = -dg / (g_t + g_y f)``.

    Args:
        function: ``function(t, y, *args)`` gets what f gets and returns one number, 0-d, or with ``batch_dims`` one a
            lane, (*batch). It gets all lanes, always.
        direction: 1 for changes from negative to positive in the direction of integration, -1 for the opposite, 0 for
            both.
        terminal: whether a lane ends where it happens, or at which time that it happens: ``terminal=3`` is the third.
            None is True without a jump and False with one.
        jump: ``jump(t, y, *args)`` returns the state with which the solve goes on, in y0's structure. Where the event
            ends the lane there is none.

    References:
        Hairer, Norsett & Wanner 1993, II.6; Chen, Amos & Nickel 2021, arXiv:2011.03902 (gradients).

    Example:
        >>> import isocline as iso, torch
        >>> def fall(t, y):
        ...     return torch.stack([y[1], torch.full_like(t, -9.81)])
        >>> floor = iso.Event(lambda t, y: y[0], direction=-1)
        >>> sol = iso.solve(fall, torch.tensor([1.0, 0.0]), (0.0, 10.0), event=floor)
        >>> round(sol.event_t.item(), 3)  # sqrt(2 / 9.81)
        0.452
    """

    function: Callable[..., Any]
    direction: int = 0
    terminal: bool | int | None = None
    jump: Callable[..., Tree] | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if not callable(self.function):
            raise TypeError(f"an event needs function(t, y, *args) -> number, got {describe(self.function)}")
        if self.direction not in (-1, 0, 1):
            raise ValueError(f"direction must be 1 (upwards), -1 (downwards) or 0 (both), got {self.direction!r:.60}")
        if not isinstance(self.terminal, (bool, type(None))):
            check_whole("terminal (if not True, False or None)", self.terminal, 1)
        if self.jump is not None and not callable(self.jump):
            raise TypeError(f"jump must be callable as jump(t, y, *args), got {describe(self.jump)}")

    @property
    def last(self) -> int:
        """The how-manieth time ends a lane; 0 for none."""
        return int(self.jump is None if self.terminal is None else self.terminal)


@dataclass(frozen=True)
class SteadyState:
    r"""End a lane at the first accepted step where f is small: ``|f / (atol + rtol |y|)| <= 1`` (root mean square).

    The state there, ``Solution.event_y``, is differentiated as the steady state itself, by the implicit function
    theorem: :math:`dy = -(\partial f/\partial y)^{-1} df`. That depends on the tensors that f uses and not on y0 or on
    the way, and costs memory of one evaluation. The equation is solved with the dense Jacobian of each lane, or for
    more than 512 numbers by GMRES. Where the Jacobian is singular (conserved quantities, a whole curve of steady
    states) there is no such gradient: solve to a fixed time instead.

    Args:
        rtol: relative tolerance for f per unit of time; None is the solve's.
        atol: absolute tolerance; None is the solve's.

    Example:
        >>> import isocline as iso, torch
        >>> k = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
        >>> sol = iso.solve(lambda t, y: k - y**2, torch.ones(1).double(), (0.0, 100.0), event=iso.SteadyState())
        >>> sol.event_y.sum().backward()  # y = sqrt(k)
        >>> round(k.grad.item(), 4)
        0.25
    """

    rtol: Tolerance | None = None
    atol: Tolerance | None = None

    def __post_init__(self) -> None:
        """Check the tolerances."""
        PID(1.0 if self.rtol is None else self.rtol, 1.0 if self.atol is None else self.atol)


AnyEvent = Event | SteadyState


def listed(event: object) -> tuple[AnyEvent, ...]:
    """Return what the user gave as ``event`` as a tuple of events."""
    given = event if isinstance(event, Sequence) else () if event is None else (event,)
    return tuple(one if isinstance(one, AnyEvent) else _of_function(one) for one in given)


def _of_function(function: object) -> Event:
    if not callable(function):
        raise TypeError(f"event must be an Event, a function of (t, y, *args), or several; got {describe(function)}")
    return Event(function)
