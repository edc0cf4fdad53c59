"""A batch in which every sample has its own stiffness, its own end time, and its own step size."""

import torch

import isocline as iso


def van_der_pol(t, y, mu):
    x, v = y.unbind(-1)
    return torch.stack([v, mu * (1 - x**2) * v - x], dim=-1)


mu = torch.logspace(-1, 1, 8)
y0 = torch.tensor([[2.0, 0.0]]).repeat(8, 1)
ends = torch.linspace(5.0, 10.0, 8)

sol = iso.solve(van_der_pol, y0, (0.0, ends), args=(iso.PerLane(mu),), batch_dims=1)
print("mu      ", [round(m, 2) for m in mu.tolist()])
print("end     ", [round(t, 2) for t in sol.ts[-1].tolist()])
print("accepted", sol.stats.accepted.tolist())
print("rejected", sol.stats.rejected.tolist())
print(f"{sol.stats.evaluations} calls of f, for {sol.stats.rows} rows: samples that have ended are left out")
assert sol.success.all()
