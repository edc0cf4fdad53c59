"""The peer benchmarks' contenders, on small cases: who takes part, and that the answers are right."""

import importlib.util

import pytest
import torch
from benchmarks.peers.cases import NAMES, make_case
from benchmarks.peers.contender import Contender
from benchmarks.peers.contenders import CONTENDERS, contenders_for
from benchmarks.peers.measure import judge, prepare
from benchmarks.peers.truth import disagreement, truth_of

SMALL = ("mlp-3x2x8", "mlp-3x2x8-grad", "cnf-2x8-grad", "conv-2x3x3-grad", "vdp-4", "vdp-4-net", "lorenz-3", "saves-5")
PEERS = ("torchdiffeq", "torchode", "diffrax", "scipy")
every_small_case = pytest.mark.parametrize("name", SMALL)


def check(contender: Contender, name: str) -> None:
    case = make_case(name)
    _, answer, record = prepare(contender, case, "cpu")
    assert judge(case, record, answer, truth_of(case))["timing"]["status"] == "ok", record


@every_small_case
def test_isocline_is_right(name: str) -> None:
    for contender in contenders_for(make_case(name), "cpu", ["isocline:eager"]):
        check(contender, name)


# Other libraries' deprecations are theirs. One case with a gradient and one without: compiling takes seconds.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["cnf-2x8", "vdp-2", "mlp-3x2x8-grad"])
@pytest.mark.parametrize("peer", PEERS)
def test_peer_is_right(peer: str, name: str) -> None:
    if importlib.util.find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed: it is in the extra 'benchmarks'")
    for contender in contenders_for(make_case(name), "cpu", [peer]):
        if not contender.chosen("compiled"):
            check(contender, name)


@pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="scipy is not installed")
@every_small_case
def test_reference_agrees_with_scipy(name: str) -> None:
    case = make_case(name)
    found = disagreement(case, truth_of(case))
    assert found is not None and found < 1e-7


def test_names_are_unique_and_say_their_words() -> None:
    assert len({contender.name for contender in CONTENDERS}) == len(CONTENDERS)
    eager = contenders_for(make_case("mlp-3x2x8-grad"), "cpu", ["isocline:eager", "torchdiffeq:direct"])
    assert [contender.name for contender in eager] == [
        "isocline:direct:eager",
        "isocline:checkpoint:eager",
        "isocline:backsolve:eager",
        "torchdiffeq:direct",
    ]


def test_only_torch_libraries_run_on_cuda() -> None:
    packages = {contender.package for contender in contenders_for(make_case("mlp-3x2x8"), "cuda")}
    assert packages == {"isocline", "torchdiffeq", "torchode"}


def test_overhead_is_between_isocline_and_the_bare_field() -> None:
    names = [contender.name for contender in contenders_for(make_case("overhead-4x2x8"), "cpu")]
    assert names == ["isocline:eager", "isocline:compiled", "bare:eager", "bare:compiled"]


def test_a_case_is_the_same_at_every_call() -> None:
    first, second = make_case("mlp-3x2x8-grad"), make_case("mlp-3x2x8-grad")
    assert isinstance(first.y0, torch.Tensor) and isinstance(second.y0, torch.Tensor)
    torch.testing.assert_close(first.y0, second.y0, rtol=0, atol=0)
    for one, other in zip(first.field.parameters(), second.field.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_every_standard_case_has_contenders() -> None:
    for name in ("mlp-1x2x50", "conv-64x7x7-grad", "cnf-2x64", "vdp-256-net", "lorenz-1", "saves-10", "overhead"):
        assert name in NAMES
        assert contenders_for(make_case(name), "cpu")


@pytest.mark.parametrize("name", ["nothing", "mlp-4", "vdp-3-net-net", "mlp"])
def test_unknown_case(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown case '{name}'"):
        make_case(name)
