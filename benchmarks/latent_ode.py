"""An epoch of the paper's latent ODE on spirals: this library beside torchdiffeq, on the same model and weights.

    python -m benchmarks.latent_ode      # prints the table, writes benchmarks/results/latent_ode.json

An epoch is one step of Adam on all 1000 spirals, each seen at the same 100 times: the recognition network backwards
over the observations, a sample of z0, the solve by dopri5 at rtol 2e-7 and atol 2e-9, decoder, bound, gradients. These
are the sizes and settings of torchdiffeq's own latent ODE example, but for its rtol of 1e-7: that is below what float32
resolves, and isocline refuses it. Timed at the first weights, and at those after some epochs of training, when the
field asks for more steps. Bounds and gradients are compared before anything is timed; all are timed in turns in one
process. The ratio is torchdiffeq's odeint over each.
"""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torchdiffeq import odeint, odeint_adjoint

import isocline as iso
from benchmarks.peers.results import machine, save, versions
from benchmarks.peers.timing import in_turns
from isocline.data import spirals
from isocline.models import Autonomous, GapRNN

RESULT = Path(__file__).parent / "results" / "latent_ode.json"
PEER = "torchdiffeq odeint"
LATENT, HIDDEN, WIDTH, NOISE = 4, 20, 25, 0.3
RTOL, ATOL = 2e-7, 2e-9
Bound = Callable[[], Tensor]


def model_of(*, compiled: bool) -> iso.LatentODE:
    """The model; the same weights in every call."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Linear(LATENT, HIDDEN), nn.ELU(), nn.Linear(HIDDEN, HIDDEN), nn.ELU(), nn.Linear(HIDDEN, LATENT))
    )
    return iso.LatentODE(
        GapRNN(2, WIDTH, cell=nn.RNNCell),
        Autonomous(net),
        nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2)),
        latent=LATENT,
        noise=NOISE,
        batch_dims=0,
        method="dopri5",
        rtol=RTOL,
        atol=ATOL,
        compile=compiled,
    )


def plain(model: iso.LatentODE, solve: Callable[..., Tensor], series: iso.Series) -> Bound:
    """The same bound as its users write it with torchdiffeq: a loop over the observations, and one call."""
    field, x = model.dynamics.field, series.values
    ts = series.ts[:, 0].to(x.dtype)
    gaps = torch.cat([ts[:1], ts]).diff()
    known = torch.ones_like(x[0])

    def bound() -> Tensor:
        h = x.new_zeros(x.shape[1], WIDTH)
        for row in reversed(range(len(ts))):
            h = model.encoder.cell(torch.cat([x[row], known, gaps[row].expand(len(h), 1)], dim=1), h)
        mean, log_variance = model.code(h).chunk(2, dim=1)
        z0 = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        z = solve(field, z0, ts, rtol=RTOL, atol=ATOL, method="dopri5")
        likelihood = Normal(model.decoder(z), NOISE).log_prob(x).sum((0, 2))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return (likelihood - divergence).mean()

    return bound


def contenders(series: iso.Series, weights: dict[str, Tensor]) -> dict[str, tuple[iso.LatentODE, Bound]]:
    """Models of these weights, each with its bound."""
    found: dict[str, tuple[iso.LatentODE, Bound]] = {}
    for name, solve in {PEER: odeint, "torchdiffeq odeint_adjoint": odeint_adjoint}.items():
        model = model_of(compiled=False)
        found[name] = model, plain(model, solve, series)
    for name, compiled in {"isocline": False, "isocline, compiled": True}.items():
        model = model_of(compiled=compiled)
        found[name] = model, lambda model=model: model.elbo(series).mean()
    for model, _ in found.values():
        model.load_state_dict(weights)
    return found


def trained(series: iso.Series, epochs: int) -> dict[str, Tensor]:
    """Weights after so many steps, at looser tolerances to save time."""
    model = model_of(compiled=False)
    model.dynamics.settings.update(rtol=1e-4, atol=1e-5)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        optimiser.zero_grad()
        (-model.elbo(series).mean()).backward()
        optimiser.step()
    return model.state_dict()


def gradient_of(model: iso.LatentODE, bound: Bound) -> Tensor:
    """The bound and its flat gradient, with the same sample of z0 for all."""
    torch.manual_seed(1)
    value = bound()
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.cat([value.detach().reshape(1), *(g.flatten() for g in torch.autograd.grad(value, parameters))])


def epoch_of(model: iso.LatentODE, bound: Bound) -> Callable[[], None]:
    """A step that leaves the weights as they are: the learning rate is 0."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.0)

    def epoch() -> None:
        optimiser.zero_grad()
        (-bound()).backward()
        optimiser.step()

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="spirals")
    parser.add_argument("--epochs", type=int, default=300, help="of training before the second measurement")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--results", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    series = spirals(options.count, 100, seed=0).observed
    stages = {f"after {epochs} epochs": measured(series, epochs, options.rounds) for epochs in (0, options.epochs)}
    about = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "machine": machine("cpu")}
    save({**about, "versions": versions(), "count": options.count, "stages": stages}, options.results)


def measured(series: iso.Series, epochs: int, rounds: int) -> dict[str, Any]:
    """Evaluations of a solve, and times of an epoch."""
    models = contenders(series, trained(series, epochs))
    gradients = {name: gradient_of(*each) for name, each in models.items()}
    exact = gradients[PEER]
    errors = {name: float((found - exact).norm() / exact.norm()) for name, found in gradients.items()}
    if wrong := {name: error for name, error in errors.items() if not error < 1e-2}:
        raise SystemExit(f"bounds or gradients differ: {wrong}")
    times = in_turns({name: epoch_of(*each) for name, each in models.items()}, rounds, 0.1)
    stats = models["isocline"][0].dynamics.stats
    assert stats is not None
    print(f"after {epochs} epochs: {stats.evaluations} evaluations")
    rows = {}
    for name, each in times.items():
        rows[name] = {"difference": errors[name], **each, "ratio": times[PEER]["median"] / each["median"]}
        print(f"{name:28} {1e3 * each['median']:8.0f} ms  {rows[name]['ratio']:.2f}  differs by {errors[name]:.1e}")
    return {"evaluations": stats.evaluations, "rows": rows}


if __name__ == "__main__":
    main()
