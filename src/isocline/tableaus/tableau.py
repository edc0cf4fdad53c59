"""What describes an explicit Runge-Kutta method, and arithmetic for writing one down."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction as F
from functools import lru_cache
from typing import Literal

Number = float | F

Sum = tuple[tuple[int, float], ...]
"""A weighted sum of stages: pairs of index and weight."""


@dataclass(frozen=True)
class Tableau:
    r"""An explicit Runge-Kutta method with s stages.

    ``k_i = f(t + c_i h, y + h sum_j a_ij k_j)``, ``y1 = y + h sum_i b_i k_i``; between the ends
    ``y(t + theta h) = y + h sum_i b_i(theta) k_i``, where the sum goes over *late stages* as well: those that only the
    interpolant reads, evaluated for the steps that are interpolated.

    Args:
        name: the lower-case name users write.
        order: p; the local error of y1 is O(h^(p+1)).
        a: the strictly lower triangle: row i holds a_i0 .. a_i(i-1), so the first row is empty.
        b: weights of y1, length s.
        c: nodes, length s.
        embedded: weights of the embedded method whose difference to y1 estimates the error, or None.
        embedded_order: its order.
        second: weights of another embedded method, of lower order. With e and e' the differences of y1 to the two, the
            error's estimate is then ``e |e| / sqrt(e^2 + (e'/10)^2)``, of order 2 embedded_order - second_order. This
            is how DOP853 does it, but number by number, so that no norm is needed; in norm it is never below DOP853's.
        second_order: its order.
        late_a: rows of the late stages, over all stages before: s, s + 1, ... numbers.
        late_c: their nodes.
        basis: what the numbers of a row in ``dense`` stand for: "powers" theta, theta^2, ..., or, for d numbers, the
            "bernstein" polynomials ``binom(d, k) theta^k (1 - theta)^(d - k)``, k = 1 .. d, which are all positive:
            written in powers, interpolants of high order lose up to six digits to cancellation.
        dense: one row a stage, late ones last: coefficients of b_i(theta) in the basis below.
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
    second: tuple[float, ...] | None = None
    second_order: int | None = None
    late_a: tuple[tuple[float, ...], ...] = ()
    late_c: tuple[float, ...] = ()
    basis: Literal["powers", "bernstein"] = "powers"
    end_stage: int | None = field(init=False, repr=False, compare=False)
    """Index of the stage that is f at y1, which the next step can take over as its first; None: there is none."""
    rows: tuple[Sum, ...] = field(init=False, repr=False, compare=False)
    """The rows of a without their zeros: pairs (index of a stage, weight)."""
    sum: Sum = field(init=False, repr=False, compare=False)
    """Likewise b."""
    errors: tuple[Sum, ...] = field(init=False, repr=False, compare=False)
    """Likewise ``b - embedded``, and ``b - second``, if there are any."""

    def __post_init__(self) -> None:
        """Check that the lengths fit; the order conditions are the tests' business."""
        s, late = len(self.b), len(self.late_a)
        lengths = [len(row) for row in (*self.a, *self.late_a)]
        if lengths != list(range(s + late)) or len(self.c) != s or len(self.a) != s or len(self.late_c) != late:
            raise ValueError(
                f"tableau {self.name!r}: with {s} weights, a needs rows of length 0..{s - 1} and c {s} entries; late_a "
                f"goes on with rows of length {s}, ..., and late_c has as many entries"
            )
        if len(self.dense) != s + late or self.basis not in ("powers", "bernstein"):
            raise ValueError(
                f"tableau {self.name!r}: dense needs {s + late} entries, one a stage; basis is 'powers' or 'bernstein'"
            )
        for what, weights, order in (
            ("embedded", self.embedded, self.embedded_order),
            ("second", self.second, self.second_order),
        ):
            if (weights is None) != (order is None) or len(weights or self.b) != s:
                raise ValueError(f"tableau {self.name!r}: {what} needs {s} weights and {what}_order, or neither")
        if self.second is not None and self.embedded is None:
            raise ValueError(f"tableau {self.name!r}: second needs embedded")
        ends = (i for i in range(1, s) if self.c[i] == 1.0 and self.a[i] == self.b[:i] and not any(self.b[i:]))
        embedded = [row for row in (self.embedded, self.second) if row is not None]
        object.__setattr__(self, "end_stage", next(ends, None))
        object.__setattr__(self, "rows", tuple(map(_nonzero, self.a)))
        object.__setattr__(self, "sum", _nonzero(self.b))
        object.__setattr__(self, "errors", tuple(_nonzero(_difference(self.b, row)) for row in embedded))

    def __repr__(self) -> str:
        """Say which it is, without its numbers."""
        return f"Tableau({self.name!r}, order={self.order}, stages={self.stages})"

    def __hash__(self) -> int:
        """Hash cheaply: solves look up compiled programs by their method."""
        return hash(self.name)

    @property
    def stages(self) -> int:
        """Number of stages s, without the late ones."""
        return len(self.b)

    @property
    def error_order(self) -> int | None:
        """Order q of the error's estimate, which is O(h^(q+1)); None if there is none."""
        if self.embedded_order is None:
            return None
        lower = self.embedded_order if self.second_order is None else self.second_order
        return min(2 * self.embedded_order - lower, self.order)


@lru_cache
def whole(tableau: Tableau) -> Tableau:
    """Return a method with its late stages among the others: the same steps, with all that interpolation reads.

    A late stage that is f at y1 is then the next step's first.
    """
    zeros = (0.0,) * len(tableau.late_a)
    return replace(
        tableau,
        a=tableau.a + tableau.late_a,
        b=tableau.b + zeros,
        c=tableau.c + tableau.late_c,
        embedded=None if tableau.embedded is None else tableau.embedded + zeros,
        second=None if tableau.second is None else tableau.second + zeros,
        late_a=(),
        late_c=(),
    )


def _nonzero(row: Sequence[float]) -> Sum:
    return tuple((i, weight) for i, weight in enumerate(row) if weight != 0.0)


def _difference(x: Sequence[float], y: Sequence[float]) -> tuple[float, ...]:
    return tuple(p - q for p, q in zip(x, y, strict=True))


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
