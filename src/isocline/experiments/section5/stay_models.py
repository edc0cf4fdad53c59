"""Models of stays in intensive care: a latent ODE that reconstructs them, a classifier of what has read them."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

import isocline as iso
from isocline.models import GRUD, ODERNN, Autonomous, DecayRNN, Recurrence, read

Encoder = Literal["ode-rnn", "gru-d", "rnn-decay"]
GapMethod = Literal["euler", "midpoint"]
TITLES: dict[Encoder, str] = {"ode-rnn": "ODE-RNN", "gru-d": "GRU-D", "rnn-decay": "RNN-Decay"}

CHANCE = 0.14
"""Share of patients who die: where the classifier begins."""


def encoder(name: Encoder, channels: int, width: int, units: int, method: GapMethod, mean: Tensor) -> Recurrence:
    """What reads a stay; the gaps of an ODE-RNN are solved together, by one step of a method of fixed steps each."""
    if name == "gru-d":
        return GRUD(channels, width, mean)
    if name == "rnn-decay":
        return DecayRNN(channels, width)
    field = Autonomous(nn.Sequential(nn.Linear(width, units), nn.Tanh(), nn.Linear(units, width)))
    return ODERNN(field, channels, width, batch_dims=0, method=method, controller=iso.FixedStep(1.0))


class Classifier(nn.Module):
    """The chance of an outcome, from the state at 48 hours of a recurrence and from what is known beside the series."""

    def __init__(self, reader: Recurrence, beside: int, units: int, dropout: float) -> None:
        """`beside` is the number of features beside the series."""
        super().__init__()
        self.reader = reader
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(reader.size + beside, units), nn.ReLU(), nn.Dropout(dropout)
        )
        self.last = nn.Linear(units, 1)
        nn.init.constant_(self.last.bias, math.log(CHANCE / (1 - CHANCE)))

    def forward(self, series: iso.Series, beside: Tensor) -> Tensor:
        """Logits, (B,), of series on times from 0 to 1."""
        out: Tensor = self.last(self.head(torch.cat([read(self.reader, series, 1.0), beside], dim=1)))
        return out.squeeze(1)


def latent_ode(
    reader: Recurrence, channels: int, latent: int, units: int, noise: float, tolerance: float
) -> iso.LatentODE:
    """The generative model of Rubanova et al.: a field of three layers of tanh, and a linear decoder."""
    layers: list[nn.Module] = [nn.Linear(latent, units), nn.Tanh()]
    for _ in range(2):
        layers += [nn.Linear(units, units), nn.Tanh()]
    field = nn.Sequential(*layers, nn.Linear(units, latent))
    return iso.LatentODE(
        reader,
        Autonomous(field),
        nn.Linear(latent, channels),
        latent=latent,
        noise=noise,
        batch_dims=0,  # rounded times are shared by many stays
        rtol=tolerance,
        atol=tolerance,
    )
