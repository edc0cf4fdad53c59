"""Models: plain modules that call ``solve``, and what their training needs."""

from isocline.models.augmented import AugmentedNeuralODE
from isocline.models.flows import CNF, ExactTrace, Hutchinson, HutchPlusPlus, flow_matching_loss
from isocline.models.ode_block import NeuralODE
from isocline.models.regularised import Regularised
from isocline.models.schedules import StepSchedule, ToleranceSchedule

__all__ = [
    "CNF",
    "AugmentedNeuralODE",
    "ExactTrace",
    "HutchPlusPlus",
    "Hutchinson",
    "NeuralODE",
    "Regularised",
    "StepSchedule",
    "ToleranceSchedule",
    "flow_matching_loss",
]
