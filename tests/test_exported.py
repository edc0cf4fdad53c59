"""Solves in graphs of ``torch.export``, and what runs them where there is no isocline: AOTInductor, ONNX."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

import isocline as iso

# torch's own exporters use what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

EXACT: Any = {"rtol": 1e-6, "atol": 1e-6}


class Swirl(nn.Module):
    """A field with parameters, that depends on time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        found: Tensor = self.layers(y) + t.cos()
        return found


def classifier(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), iso.NeuralODE(Swirl(), (0.0, 1.0), **settings), nn.Linear(2, 4)).eval()


def exported(model: nn.Module, *inputs: Tensor, any_batch: bool = False) -> ExportedProgram:
    batch = Dim("batch", min=2, max=1000)
    shapes: Any = tuple({0: batch} for _ in inputs) if any_batch else None
    with torch.no_grad():
        return export(model, inputs, dynamic_shapes=shapes, strict=False)


SETTINGS: dict[str, dict[str, Any]] = {
    "tsit5": EXACT,
    "one step size a sample": {**EXACT, "batch_dims": 1},
    "dopri5, PID": {"method": "dopri5", "controller": iso.PID(1e-6, 1e-6)},
    "dop853": {"method": "dop853", **EXACT},
    "rk4": {"method": "rk4", "controller": iso.FixedStep(0.05)},
    "reversible": {"method": iso.Reversible("rk4"), "controller": iso.FixedStep(0.05)},
    "fixed steps that do not fit": {"method": "midpoint", "controller": iso.FixedStep(0.07)},
}


LONG = "dop853", "dopri5, PID"


@pytest.mark.parametrize(
    "settings",
    [pytest.param(x, id=name, marks=pytest.mark.long if name in LONG else ()) for name, x in SETTINGS.items()],
)
def test_a_layer_of_a_model(settings: dict[str, Any]) -> None:
    model = classifier(**settings)
    program = exported(model, torch.randn(4, 3), any_batch=True).module()
    for count in (2, 4, 50):
        x = torch.randn(count, 3)
        torch.testing.assert_close(program(x), model(x), rtol=1e-5, atol=1e-5)
    # What was traced has left nothing behind.
    assert torch.isfinite(model(torch.randn(4, 3))).all()


class Pendulums(nn.Module):
    """Save times and a parameter as inputs of the graph, a state of two tensors."""

    def forward(self, q: Tensor, ts: Tensor, k: Tensor) -> Any:
        def f(t: Tensor, y: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
            return {"p": -k * y["q"].sin(), "q": y["p"]}  # in another order than y0

        sol = iso.solve(f, {"q": q, "p": torch.zeros_like(q)}, ts, args=(k,), batch_dims=1, **EXACT)
        return sol.ys["q"], sol.ys["p"], sol.status


def test_save_times_and_arguments_may_be_inputs() -> None:
    model, q = Pendulums(), torch.linspace(0.1, 2.0, 5)
    ts, k = torch.linspace(0.0, 1.0, 4, dtype=torch.float64), torch.tensor(1.0)
    program = exported(model, q, ts, k).module()
    for end in (2.0, -2.0):
        other = ts * end, torch.tensor(3.0)
        torch.testing.assert_close(program(q, *other), model(q, *other), rtol=1e-5, atol=1e-5)


def test_a_density() -> None:
    """A CNF's trace differentiates inside of the loop."""
    torch.manual_seed(0)

    class Ellipse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(2, 2))

        def forward(self, x: Tensor) -> Any:
            def f(t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
                return y[0] @ self.matrix.t(), self.matrix.trace().expand(y[1].shape)

            sol = iso.solve(f, (x, torch.zeros_like(x[:, 0])), (0.0, 1.0), **EXACT)
            return sol.ys[0][-1], sol.ys[1][-1]

    model = Ellipse()
    program = exported(model, torch.randn(4, 2), any_batch=True).module()
    x = torch.randn(9, 2)
    moved, log_det = program(x)
    torch.testing.assert_close(moved, x @ torch.linalg.matrix_exp(model.matrix).T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_det, model.matrix.trace().expand(9), rtol=1e-4, atol=1e-4)


class Blow(nn.Module):
    def __init__(self, max_steps: int = 1000) -> None:
        super().__init__()
        self.max_steps = max_steps

    def forward(self, y0: Tensor) -> Any:
        ts = (0.0, 0.5, 2.0)
        sol = iso.solve(lambda t, y: y * y, y0, ts, batch_dims=1, max_steps=self.max_steps)
        return sol.ys, sol.status


def test_what_is_not_reached_is_nan() -> None:
    y0 = torch.tensor([[0.1], [1.0]])  # of 1 / (1/y0 - t), which for the second ends at t = 1
    ys, status = exported(Blow(), y0).module()(y0)
    torch.testing.assert_close(ys[:, 0, 0], 1 / (10 - torch.tensor([0.0, 0.5, 2.0])), rtol=1e-4, atol=0)
    assert ys[2, 1].isnan().all()
    assert ys[1, 1].isfinite().all()
    assert status[0] == int(iso.Status.SUCCESS)
    assert status[1] != int(iso.Status.SUCCESS)
    ys, status = exported(Blow(max_steps=2), y0).module()(y0)
    assert (status == int(iso.Status.MAX_STEPS)).all()
    assert ys[2].isnan().all()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "stiff": ({"method": "kvaerno5"}, "'kvaerno5' cannot be exported"),
    "dense": ({"dense": True}, "without dense"),
    "event": ({"event": lambda t, y: y.sum()}, "without event"),
    "several": ({"jump_ts": torch.tensor([0.2, 0.5]), "progress": True}, "without jump_ts, progress"),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_what_needs_python_is_refused(settings: dict[str, Any], message: str) -> None:
    class Solving(nn.Module):
        def forward(self, y0: Tensor) -> Any:
            return iso.solve(lambda t, y: -y, y0, (0.0, 1.0), **settings).ys

    with pytest.raises(ValueError, match=message):
        exported(Solving(), torch.ones(2))


LOADED = """
import sys
sys.modules["isocline"] = None  # an import would fail
import torch
model = torch._inductor.aoti_load_package(sys.argv[1])
x = torch.load(sys.argv[2])
torch.save(model(x), sys.argv[3])
"""


@pytest.mark.long
def test_aot_inductor_runs_without_isocline(tmp_path: Path) -> None:
    model, x = classifier(**EXACT), torch.randn(7, 3)
    program = exported(model, torch.randn(4, 3), any_batch=True)
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "model.pt2"))
    torch.save(x, tmp_path / "x.pt")
    places = [package, tmp_path / "x.pt", tmp_path / "found.pt"]
    subprocess.run([sys.executable, "-c", LOADED, *map(str, places)], check=True)
    torch.testing.assert_close(torch.load(tmp_path / "found.pt"), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["tsit5", pytest.param("rk4", marks=pytest.mark.long)])
def test_onnx(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model, x = classifier(**SETTINGS[name]), torch.randn(7, 3)
    batch = Dim("batch", min=2, max=1000)
    settings: Any = {"dynamo": True, "dynamic_shapes": ({0: batch},), "verbose": False}
    with torch.no_grad():
        torch.onnx.export(model, (torch.randn(4, 3),), tmp_path / "model.onnx", **settings)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(x).detach(), rtol=1e-4, atol=1e-4)
