"""Models: plain modules that call ``solve``."""

from isocline.models.augmented import AugmentedNeuralODE
from isocline.models.ode_block import NeuralODE

__all__ = ["AugmentedNeuralODE", "NeuralODE"]
