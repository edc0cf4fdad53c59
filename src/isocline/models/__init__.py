"""Models: plain modules that call ``solve``, and what their training needs."""

from isocline.models.augmented import AugmentedNeuralODE
from isocline.models.flows import CNF, ExactTrace, Hutchinson, HutchPlusPlus, flow_matching_loss
from isocline.models.ode_block import NeuralODE
from isocline.models.regularised import Regularised
from isocline.models.schedules import StepSchedule, ToleranceSchedule
from isocline.models.series.batch import Series
from isocline.models.series.cells import GRUD, DecayRNN, GapRNN
from isocline.models.series.dynamics import Autonomous, Hybrid, SeriesODE, latent_field
from isocline.models.series.estimator import SeriesRegressor
from isocline.models.series.forecaster import Forecaster
from isocline.models.series.latent_ode import LatentODE
from isocline.models.series.noise import GaussianNoise
from isocline.models.series.ode_rnn import ODERNN, GRUField
from isocline.models.series.process import PoissonProcess, ks_test
from isocline.models.series.recurrence import Recurrence, encode, read
from isocline.models.series.recurrent_process import RecurrentProcess

__all__ = [
    "CNF",
    "GRUD",
    "ODERNN",
    "AugmentedNeuralODE",
    "Autonomous",
    "DecayRNN",
    "ExactTrace",
    "Forecaster",
    "GRUField",
    "GapRNN",
    "GaussianNoise",
    "HutchPlusPlus",
    "Hutchinson",
    "Hybrid",
    "LatentODE",
    "NeuralODE",
    "PoissonProcess",
    "Recurrence",
    "RecurrentProcess",
    "Regularised",
    "Series",
    "SeriesODE",
    "SeriesRegressor",
    "StepSchedule",
    "ToleranceSchedule",
    "encode",
    "flow_matching_loss",
    "ks_test",
    "latent_field",
    "read",
]
