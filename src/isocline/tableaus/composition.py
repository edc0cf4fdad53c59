"""Symmetric compositions of leapfrog steps: splitting methods as data."""

from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar


@dataclass(frozen=True)
class Composition:
    """A splitting method for ``q' = v(p, t)``, ``p' = a(q, t)``: leapfrog steps of lengths ``w_i h``, one by one.

    Args:
        name: the lower-case name users write.
        order: p; the local error is O(h^(p+1)).
        lengths: w_i, which sum to 1, the same from both ends.
        citation: author, year, where.
    """

    name: str
    order: int
    lengths: tuple[float, ...]
    citation: str
    kicks: tuple[float, ...] = field(init=False, repr=False, compare=False)
    """How far p moves, in steps: before, between and after the drifts of ``lengths``; kicks that meet are one."""
    kick_nodes: tuple[float, ...] = field(init=False, repr=False, compare=False)
    """When each kick is evaluated, in steps: where the drifts have brought q."""
    drift_nodes: tuple[float, ...] = field(init=False, repr=False, compare=False)
    """When each drift is evaluated, in steps: where the kicks have brought p."""
    dense_order: ClassVar[int] = 3
    """Degree of the interpolant, which is Hermite's."""

    def __post_init__(self) -> None:
        """Check the lengths, and add them up."""
        if not self.lengths or abs(sum(self.lengths) - 1) > 1e-12 or self.lengths != self.lengths[::-1]:
            raise ValueError(
                f"composition {self.name!r}: lengths must add up to 1 and be the same from both ends; got "
                f"{self.lengths}"
            )
        halves = [w / 2 for w in self.lengths]
        kicks = tuple(a + b for a, b in zip([0.0, *halves], [*halves, 0.0], strict=True))
        object.__setattr__(self, "kicks", kicks)
        object.__setattr__(self, "kick_nodes", (*accumulate(self.lengths[:-1], initial=0.0), 1.0))
        object.__setattr__(self, "drift_nodes", tuple(accumulate(kicks[:-1])))

    def __hash__(self) -> int:
        """Hash cheaply: solves look up compiled programs by their method."""
        return hash(self.name)


def _symmetric(*half: float) -> tuple[float, ...]:
    """Return lengths from the outermost to the one before the middle, the middle that makes the sum 1, and back."""
    return (*half, 1 - 2 * sum(half), *reversed(half))


LEAPFROG = Composition(
    "leapfrog",
    order=2,
    lengths=(1.0,),
    citation="Verlet 1967, Phys. Rev. 159, doi:10.1103/PhysRev.159.98; Swope, Andersen, Berens & Wilson 1982, J. Chem. "
    "Phys. 76, doi:10.1063/1.442716 (with velocities)",
)

_YOSHIDA = "Yoshida 1990, Phys. Lett. A 150, doi:10.1016/0375-9601(90)90092-3"

YOSHIDA4 = Composition("yoshida4", order=4, lengths=_symmetric(1 / (2 - 2 ** (1 / 3))), citation=_YOSHIDA)

YOSHIDA6 = Composition(
    "yoshida6",
    order=6,
    # The digits are those of Hairer, Lubich & Wanner 2006, Geometric Numerical Integration, V.3.2.
    lengths=_symmetric(0.78451361047755726382, 0.23557321335935813368, -1.17767998417887100695),
    citation=f"{_YOSHIDA}, table 1, solution A",
)

YOSHIDA8 = Composition(
    "yoshida8",
    order=8,
    lengths=_symmetric(
        0.914844246229740,
        0.253693336566229,
        -1.44485223686048,
        -0.158240635368243,
        1.93813913762276,
        -1.96061023297549,
        0.102799849391985,
    ),
    citation=f"{_YOSHIDA}, table 2, solution D",
)

COMPOSITIONS: dict[str, Composition] = {method.name: method for method in (LEAPFROG, YOSHIDA4, YOSHIDA6, YOSHIDA8)}
"""All splitting methods by name."""
