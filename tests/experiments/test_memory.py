import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from isocline.experiments.memory import peak_memory

SIZE = 4 * 1000


def _chain(x: Tensor, length: int) -> Tensor:
    for _ in range(length):
        x = x.exp()  # saves its result for the backward pass
    return x


@pytest.fixture
def leaf() -> Tensor:
    return torch.zeros(1000, requires_grad=True)


@pytest.mark.parametrize("length", [1, 2, 10, 20])
def test_saved_activations_add_up(leaf: Tensor, length: int) -> None:
    assert peak_memory(lambda: _chain(leaf, length)) == length * SIZE


@pytest.mark.parametrize("length", [2, 10, 20])
def test_without_gradients_only_input_and_output_of_an_operation_are_alive(leaf: Tensor, length: int) -> None:
    with torch.no_grad():
        assert peak_memory(lambda: _chain(leaf, length)) == 2 * SIZE


def test_a_backward_pass_is_seen() -> None:
    x = torch.zeros(1000, requires_grad=True)
    y = x.exp()  # before the measurement: only what the backward pass makes counts
    ones = torch.ones(1000)
    # The gradient of x: the product, and what is accumulated into x.grad is the same storage.
    assert peak_memory(lambda: y.backward(ones)) == SIZE
    assert x.grad is not None


def test_memory_freed_in_a_backward_pass_is_seen_as_free(leaf: Tensor) -> None:
    def recompute() -> None:
        checkpoint(_chain, checkpoint(_chain, leaf, 10, use_reentrant=False), 10, use_reentrant=False).sum().backward()

    def store() -> None:
        _chain(leaf, 20).sum().backward()

    assert peak_memory(store) > 20 * SIZE
    assert peak_memory(recompute) < 15 * SIZE


def test_views_and_what_was_there_before_do_not_count(leaf: Tensor) -> None:
    tensor = leaf.detach().clone()
    assert peak_memory(lambda: [tensor.view(10, 100).t(), tensor[5:], tensor.add_(1.0)]) == 0


def test_the_peak_counts_and_not_the_end_or_the_sum() -> None:
    def passing() -> None:
        for _ in range(5):
            torch.ones(3000)
        torch.ones(1000)

    assert peak_memory(passing) == 3 * SIZE


def test_a_list_of_results_counts() -> None:
    a, b = torch.zeros(1000), torch.zeros(500)
    assert peak_memory(lambda: torch._foreach_add([a, b], 1.0)) == 1.5 * SIZE


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_counts_what_the_call_adds() -> None:
    there = torch.zeros(1 << 20, device="cuda")
    assert peak_memory(lambda: there + 1.0, "cuda") == 4 << 20
