"""Series and models that the tests share, in float64."""

import torch
from torch import Tensor, nn

import isocline as iso
from isocline.models import GRUD, ODERNN, Autonomous, DecayRNN, GapRNN, GaussianNoise, GRUField, Recurrence

CELLS = ("GapRNN", "tanh", "DecayRNN", "GRUD", "ODERNN", "ODERNN together", "GRU-ODE")
WIDTH = 5


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=rng(seed))


def cell(name: str, channels: int = 2) -> Recurrence:
    torch.manual_seed(1)
    field = Autonomous(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()))
    made: dict[str, Recurrence] = {
        "GapRNN": GapRNN(channels, WIDTH),
        "tanh": GapRNN(channels, WIDTH, nn.RNNCell),
        "DecayRNN": DecayRNN(channels, WIDTH),
        "GRUD": GRUD(channels, WIDTH, torch.full((channels,), 0.3)),
        "ODERNN": ODERNN(field, channels, WIDTH, rtol=1e-6, atol=1e-6),
        # Steps of a fixed size, as with error control all series of a batch decide on them together.
        "ODERNN together": ODERNN(field, channels, WIDTH, batch_dims=0, method="rk4", controller=iso.FixedStep(0.25)),
        "GRU-ODE": ODERNN(GRUField(WIDTH), channels, WIDTH, method="euler", controller=iso.FixedStep(1e9)),
    }
    return made[name].double()


def irregular(seed: int = 0, lengths: tuple[int, ...] = (4, 1, 6, 3), channels: int = 2) -> iso.Series:
    """Times from 0.1 on, none shared, a third of the values missing."""
    ts = [torch.rand(n, generator=rng(seed + i), dtype=torch.float64) * 2 + 0.1 for i, n in enumerate(lengths)]
    values = [draw(n, channels, seed=seed + 10 + i) for i, n in enumerate(lengths)]
    for i, x in enumerate(values):
        hidden = torch.rand(x.shape, generator=rng(seed + 20 + i)) < 1 / 3
        hidden[:, 0] &= ~hidden.all(1)
        x[hidden] = float("nan")
    return iso.Series.of(ts, values, dtype=torch.float64)


def latent_ode(name: str = "GapRNN", *, channels: int = 2, rates: bool = False, **settings: object) -> iso.LatentODE:
    encoder = cell(name, channels)
    torch.manual_seed(2)
    field = Autonomous(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)))
    model = iso.LatentODE(
        encoder,
        field,
        nn.Linear(3, channels),
        latent=3,
        noise=GaussianNoise(channels, 0.3, learned=True),
        intensity=nn.Sequential(nn.Linear(3, channels), nn.Softplus()) if rates else None,
        **{"rtol": 1e-8, "atol": 1e-8, **settings},
    )
    return model.double()


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    """Return the gradients of all parameters, zeros where the loss does not depend on one."""
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
