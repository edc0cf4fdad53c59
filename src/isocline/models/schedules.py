"""Settings of solves that change in the course of training."""

from abc import ABC, abstractmethod
from dataclasses import replace

from torch import nn

from isocline.checks import check_numbers, check_whole
from isocline.controllers import PID, FixedStep
from isocline.models.solving import Solving


class Schedule(ABC):
    """A number that goes from ``start`` to ``end`` by equal factors over so many calls of ``step``, and stays there.

    It belongs to every ``NeuralODE`` and ``CNF`` in a model, itself or layers inside. State and names are those of
    ``torch.optim.lr_scheduler``.
    """

    def __init__(self, model: nn.Module, start: float, end: float, steps: int) -> None:
        """Set the first value."""
        check_numbers(f"{type(self).__name__} needs numbers to start and end with", start, end)
        check_whole("steps", steps, 1)
        self.layers = [module for module in model.modules() if isinstance(module, Solving)]
        if not self.layers:
            raise ValueError(f"there is no NeuralODE or CNF in the {type(model).__name__} given")
        self.start, self.end, self.steps = start, end, steps
        self.count = 0
        self._set()

    @property
    def value(self) -> float:
        """The number now."""
        if self.count >= self.steps:
            return self.end
        return float(self.start * (self.end / self.start) ** (self.count / self.steps))

    def step(self) -> None:
        """Go on: after each epoch or each optimiser step, whatever ``steps`` counts."""
        self.count += 1
        self._set()

    def state_dict(self) -> dict[str, int]:
        """Return where it stands, for a checkpoint."""
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a checkpoint: the layers are set at once."""
        self.count = state["count"]
        self._set()

    def _set(self) -> None:
        for layer in self.layers:
            self.set(layer, self.value)

    @abstractmethod
    def set(self, layer: Solving, value: float) -> None:
        """Give the layer the value."""


class ToleranceSchedule(Schedule):
    """Makes rtol and atol of layers, which are set to the same number, tighter or looser during training.

    Loose tolerances are enough while the weights are far from their end, and cost less. A ``BacksolveAdjoint`` without
    tolerances of its own follows.

    Args:
        model: a ``NeuralODE``, or any module with such layers inside: all of them are set.
        start: tolerance before the first ``step()``.
        end: tolerance from the last on.
        steps: calls of ``step()`` from one to the other, by equal factors.

    Example:
        >>> import isocline as iso
        >>> layer = iso.NeuralODE(lambda t, y: -y)
        >>> schedule = iso.ToleranceSchedule(layer, 1e-2, 1e-4, steps=10)
        >>> for epoch in range(5):
        ...     schedule.step()
        >>> f"{layer.rtol:.0e}"
        '1e-03'
    """

    def __init__(self, model: nn.Module, start: float, end: float, steps: int) -> None:
        """Set the first tolerances."""
        for tolerance in (start, end):
            PID(tolerance, tolerance)  # checks it
        super().__init__(model, start, end, steps)

    def set(self, layer: Solving, value: float) -> None:
        """Set both tolerances, of the controller if the layer has one."""
        if layer.controller is None:
            layer.rtol = layer.atol = value
        elif isinstance(layer.controller, PID):
            layer.controller = replace(layer.controller, rtol=value, atol=value)
        else:
            raise ValueError(f"a layer with {layer.controller} has no tolerances; use StepSchedule, or controller=None")


class StepSchedule(Schedule):
    """Makes the fixed steps of layers shorter or longer during training.

    Args:
        model: a ``NeuralODE``, or any module with such layers inside: all of them get ``FixedStep`` controllers.
        start: size of the steps before the first ``step()``, in the units of time.
        end: their size from the last on.
        steps: calls of ``step()`` from one to the other, by equal factors.

    Example:
        >>> import isocline as iso
        >>> layer = iso.NeuralODE(lambda t, y: -y, (0.0, 1.0), method="rk4")
        >>> schedule = iso.StepSchedule(layer, 1 / 4, 1 / 16, steps=10)
        >>> for epoch in range(5):
        ...     schedule.step()
        >>> layer.controller
        FixedStep(dt=0.125)
    """

    def __init__(self, model: nn.Module, start: float, end: float, steps: int) -> None:
        """Set the first step size."""
        for dt in (start, end):
            FixedStep(dt)  # checks it
        super().__init__(model, start, end, steps)

    def set(self, layer: Solving, value: float) -> None:
        """Set the controller."""
        if layer.rtol is not None or layer.atol is not None:
            raise ValueError("fixed steps go by no tolerances: leave out the layer's rtol and atol, or use None")
        layer.controller = FixedStep(value)
