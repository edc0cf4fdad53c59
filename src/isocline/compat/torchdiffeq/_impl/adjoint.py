"""Where programs look for the adjoint, and for the parameters it differentiates."""

from isocline.compat.torchdiffeq.adjoint import find_parameters, odeint_adjoint

__all__ = ["find_parameters", "odeint_adjoint"]
