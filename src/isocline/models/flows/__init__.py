"""Normalizing flows: densities that are exact, continuous in time or in layers."""

from isocline.models.flows.cnf import CNF
from isocline.models.flows.ffjord import Concat, ConcatSquash, FFJORDField, conv3x3
from isocline.models.flows.flow import Flow
from isocline.models.flows.hamiltonian import HamiltonianField
from isocline.models.flows.log_density import LogDensity, WithDivergence
from isocline.models.flows.matching import LinearPath, Path, TrigonometricPath, flow_matching_loss
from isocline.models.flows.planar import PlanarField
from isocline.models.flows.planar_flow import PlanarFlow
from isocline.models.flows.trace import ExactTrace, Hutchinson, HutchPlusPlus, Trace, trace_of
from isocline.models.flows.transport import minibatch_optimal_transport

__all__ = [
    "CNF",
    "Concat",
    "ConcatSquash",
    "ExactTrace",
    "FFJORDField",
    "Flow",
    "HamiltonianField",
    "HutchPlusPlus",
    "Hutchinson",
    "LinearPath",
    "LogDensity",
    "Path",
    "PlanarField",
    "PlanarFlow",
    "Trace",
    "TrigonometricPath",
    "WithDivergence",
    "conv3x3",
    "flow_matching_loss",
    "minibatch_optimal_transport",
    "trace_of",
]
