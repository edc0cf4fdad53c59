"""Learn the rates of a predator-prey model from noisy populations at irregular times: a few seconds."""

import torch

import isocline as iso

torch.manual_seed(0)


def lotka_volterra(t, y, rates):
    prey, predators = y.unbind(-1)
    a, b, c, d = rates
    return torch.stack([a * prey - b * prey * predators, c * prey * predators - d * predators], dim=-1)


truth = torch.tensor([1.1, 0.4, 0.1, 0.4])
y0 = torch.tensor([10.0, 5.0])
ts = torch.cat([torch.zeros(1), torch.rand(40).mul(12).sort().values])
data = iso.solve(lotka_volterra, y0, ts, args=(truth,)).ys * (1 + 0.02 * torch.randn(41, 2))

log_rates = torch.tensor([1.0, 0.5, 0.15, 0.5]).log().requires_grad_()
optimiser = torch.optim.LBFGS([log_rates], max_iter=60, line_search_fn="strong_wolfe")


def loss():
    optimiser.zero_grad()
    ys = iso.solve(lotka_volterra, y0, ts, args=(log_rates.exp(),)).ys
    error = (ys.clamp(min=1e-3).log() - data.log()).square().mean()
    error.backward()
    return error


optimiser.step(loss)

print("truth ", [round(x, 3) for x in truth.tolist()])
print("found ", [round(x, 3) for x in log_rates.exp().tolist()])
assert torch.allclose(log_rates.exp(), truth, rtol=0.05)
