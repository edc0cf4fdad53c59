"""The interface of torchdiffeq 0.2.5, solved by isocline: change one import, and the program runs.

    from isocline.compat.torchdiffeq import odeint_adjoint as odeint

What differs, and why, is in ``docs/migrating.md``.
"""

from isocline.compat.torchdiffeq.adjoint import odeint_adjoint
from isocline.compat.torchdiffeq.dense import odeint_dense
from isocline.compat.torchdiffeq.odeint import odeint
from isocline.compat.torchdiffeq.odeint_event import odeint_event

__version__ = "0.2.5"
"""The version whose interface this is; some programs compare it."""

__all__ = ["odeint", "odeint_adjoint", "odeint_dense", "odeint_event"]
