"""Who chooses the step size: fixed steps, or error control by the I, PI and PID rules."""

from isocline.controllers.base import Controller, Verdict, compilable, fixed_settings, replaced
from isocline.controllers.fixed_step import FixedStep
from isocline.controllers.pid import PID
from isocline.controllers.tolerances import Tolerance

__all__ = ["PID", "Controller", "FixedStep", "Tolerance", "Verdict", "compilable", "fixed_settings", "replaced"]
