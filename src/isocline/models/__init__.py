"""Models: plain modules that call ``solve``, and what their training needs."""

from isocline.models.augmented import AugmentedNeuralODE
from isocline.models.ode_block import NeuralODE
from isocline.models.regularised import Regularised
from isocline.models.schedules import StepSchedule, ToleranceSchedule

__all__ = ["AugmentedNeuralODE", "NeuralODE", "Regularised", "StepSchedule", "ToleranceSchedule"]
