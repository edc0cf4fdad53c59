"""What describes an explicit Runge-Kutta method, and arithmetic for writing one down."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction as F

Number = float | F

Sum = tuple[tuple[int, float], ...]
"""A weighted sum of stages: pairs of index and weight."""


@dataclass(frozen=True)
class Tableau:
    r"""An explicit Runge-Kutta method with s stages.

    ``k_i = f(t + c_i h, y + h sum_j a_ij k_j)``, ``y1 = y + h sum_i b_i k_i``; between the ends
    ``y(t + theta h) = y + h sum_i b_i(theta) k_i``.

    Args:
        name: the lower-case name users write.
        order: p; the local error of y1 is O(h^(p+1)).
        a: the strictly lower triangle: row i holds a_i0 .. a_i(i-1), so the first row is empty.
        b: weights of y1, length s.
        c: nodes, length s.
        embedded: weights of the embedded method whose difference to y1 estimates the error, or None.
        embedded_order: its order.
        dense: one row a stage: coefficients of b_i(theta) for theta, theta^2, ...
        dense_order: the order up to which the interpolant fulfils the order conditions for all theta. Its own error is
            O(h^(dense_order+1)), so the whole dense output converges with min(order, dense_order + 1).
        citation: author, year, where.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    dense: tuple[tuple[float, ...], ...]
    dense_order: int
    citation: str
    embedded: tuple[float, ...] | None = None
    embedded_order: int | None = None
    first_same_as_last: bool = field(init=False, repr=False, compare=False)
    """Whether the last stage is f at y1, so that the next step can take it over as its first."""
    error: tuple[float, ...] | None = field(init=False, repr=False, compare=False)
    """Weights b - embedded of the error estimate."""
    sums: tuple[Sum, ...] = field(init=False, repr=False, compare=False)
    """The rows of a, then b, then the error's weights, each without its zeros: pairs (index of a stage, weight)."""

    def __post_init__(self) -> None:
        """Check that the lengths fit; the order conditions are the tests' business."""
        s = len(self.b)
        lengths = [len(row) for row in self.a]
        if lengths != list(range(s)) or len(self.c) != s or len(self.dense) != s:
            raise ValueError(
                f"tableau {self.name!r}: with {s} weights, a needs rows of length 0..{s - 1}, c and dense {s} entries"
            )
        if (self.embedded is None) != (self.embedded_order is None) or len(self.embedded or self.b) != s:
            raise ValueError(f"tableau {self.name!r}: embedded needs {s} weights and embedded_order, or neither")
        reuses = s > 1 and self.c[-1] == 1.0 and self.a[-1] == self.b[:-1] and self.b[-1] == 0.0
        error = None if self.embedded is None else tuple(x - y for x, y in zip(self.b, self.embedded, strict=True))
        object.__setattr__(self, "first_same_as_last", reuses)
        object.__setattr__(self, "error", error)
        rows = (*self.a, self.b, *([] if error is None else [error]))
        object.__setattr__(self, "sums", tuple(tuple((i, w) for i, w in enumerate(row) if w != 0.0) for row in rows))

    def __hash__(self) -> int:
        """Hash cheaply: solves look up compiled programs by their method."""
        return hash(self.name)

    @property
    def stages(self) -> int:
        """Number of stages s."""
        return len(self.b)


def floats(row: Sequence[Number]) -> tuple[float, ...]:
    """Return numbers as floats."""
    return tuple(float(x) for x in row)


def table(rows: Sequence[Sequence[Number]]) -> tuple[tuple[float, ...], ...]:
    """Return rows of numbers as floats."""
    return tuple(floats(row) for row in rows)


def _times(p: Sequence[Number], q: Sequence[Number]) -> list[Number]:
    """Product of two polynomials given by ascending coefficients."""
    product: list[Number] = [F(0)] * (len(p) + len(q) - 1)
    for i, x in enumerate(p):
        for j, y in enumerate(q):
            product[i + j] += x * y  # type: ignore[operator]
    return product


def _sum(*polynomials: Sequence[Number]) -> list[Number]:
    longest = max(map(len, polynomials))
    return [sum((p[i] for p in polynomials if i < len(p)), F(0)) for i in range(longest)]  # type: ignore[misc]


_T, _1_T = (F(0), F(1)), (F(1), F(-1))  # theta and 1 - theta


def hermite(b: Sequence[F], extra: Sequence[F] | None = None) -> tuple[tuple[float, ...], ...]:
    """Dense weights of the cubic Hermite interpolant of a first-same-as-last method.

    ``extra`` adds a multiple of theta^2 (1 - theta)^2, which lifts dopri5's to fourth order (Hairer, Norsett & Wanner
    1993, II.6: the form of ``contd5`` in DOPRI5).
    """
    rows = []
    for i, weight in enumerate(b):
        first, last = F(i == 0), F(i == len(b) - 1)
        ends = _times(_times(_T, _1_T), _sum(_times([first - weight], [F(1)]), _times(_T, [2 * weight - first - last])))
        bump = _times(_times(_T, _T), _times(_1_T, _1_T))
        polynomial = _sum([F(0), weight], ends, _times(bump, [extra[i] if extra else F(0)]))
        rows.append(floats(polynomial[1:] if extra else polynomial[1:4]))
    return tuple(rows)
