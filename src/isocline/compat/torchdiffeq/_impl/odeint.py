"""Where programs look for the names of all methods."""

from isocline.compat.torchdiffeq.dense import odeint_dense
from isocline.compat.torchdiffeq.methods import SOLVERS
from isocline.compat.torchdiffeq.odeint import odeint
from isocline.compat.torchdiffeq.odeint_event import odeint_event

__all__ = ["SOLVERS", "odeint", "odeint_dense", "odeint_event"]
