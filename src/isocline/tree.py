"""Nested tuples, lists and dicts of tensors, taken apart and put together again."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

Tree = Any
"""A tensor, or a nested tuple, list or dict of tensors."""


def leaves(tree: Tree) -> Iterator[Any]:
    """Yield the leaves of a tree in a fixed order (dicts by insertion)."""
    if isinstance(tree, (tuple, list)):
        for child in tree:
            yield from leaves(child)
    elif isinstance(tree, dict):
        for child in tree.values():
            yield from leaves(child)
    else:
        yield tree


def map_leaves(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """Return a tree of the same structure with ``function`` applied to each leaf."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_leaves(function, child) for child in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_leaves(function, child) for child in tree)
    if isinstance(tree, dict):
        return {key: map_leaves(function, child) for key, child in tree.items()}
    return function(tree)


def align(like: Tree, tree: Tree, source: str = "f") -> list[Tensor]:
    """Return the leaves of ``tree``, which the ``source`` returned, in the order of ``like``'s.

    Tuples and lists may stand for each other; dicts must have the same keys, in any order.

    Raises:
        TypeError: the structures differ, or a leaf is not a tensor; the message says where.
    """
    return list(_align(like, tree, "", source))


def _align(like: Tree, tree: Tree, path: str, source: str) -> Iterator[Tensor]:
    where = f" at {path}" if path else ""
    if isinstance(like, dict):
        if not isinstance(tree, dict) or tree.keys() != like.keys():
            raise TypeError(f"{source} returned {describe(tree)}{where}, expected {describe(like)} like y0")
        for key, child in like.items():
            yield from _align(child, tree[key], f"{path}[{key!r}]", source)
    elif isinstance(like, (tuple, list)):
        if not isinstance(tree, (tuple, list)) or len(tree) != len(like):
            raise TypeError(f"{source} returned {describe(tree)}{where}, expected {describe(like)} like y0")
        for index, (a, b) in enumerate(zip(like, tree, strict=True)):
            yield from _align(a, b, f"{path}[{index}]", source)
    elif isinstance(tree, Tensor):
        yield tree
    else:
        raise TypeError(f"{source} returned {describe(tree)}{where}, expected a tensor like y0")


def paths(tree: Tree, path: str = "") -> Iterator[str]:
    """Yield the place of each leaf, such as ``['a'][0]``, in the order of ``leaves``."""
    if isinstance(tree, dict):
        for key, child in tree.items():
            yield from paths(child, f"{path}[{key!r}]")
    elif isinstance(tree, (tuple, list)):
        for index, child in enumerate(tree):
            yield from paths(child, f"{path}[{index}]")
    else:
        yield path


def describe(tree: Tree) -> str:
    """Say in a few words what a tree is, for error messages."""
    if isinstance(tree, Tensor):
        return f"a {tree.dtype} tensor of shape {tuple(tree.shape)}"
    if isinstance(tree, dict):
        return f"a dict with keys {list(tree)}"
    if isinstance(tree, (tuple, list)):
        return f"a {type(tree).__name__} of length {len(tree)}"
    return f"a {type(tree).__name__} ({tree!r})"[:80]
