"""Symmetric compositions of leapfrog steps: splitting methods as data."""

from dataclasses import dataclass
from itertools import accumulate


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

    def __hash__(self) -> int:
        """Hash cheaply: solves look up compiled programs by their method."""
        return hash(self.name)

    @property
    def drifts(self) -> tuple[float, ...]:
        """How far q moves between kicks, in steps."""
        return self.lengths

    @property
    def kicks(self) -> tuple[float, ...]:
        """How far p moves, in steps: before, between and after the drifts; kicks that meet are one."""
        halves = [w / 2 for w in self.lengths]
        return tuple(a + b for a, b in zip([0.0, *halves], [*halves, 0.0], strict=True))

    @property
    def kick_nodes(self) -> tuple[float, ...]:
        """When each kick is evaluated: where the drifts have brought q."""
        return (*accumulate(self.drifts[:-1], initial=0.0), 1.0)

    @property
    def drift_nodes(self) -> tuple[float, ...]:
        """When each drift is evaluated: where the kicks have brought p."""
        return tuple(accumulate(self.kicks[:-1]))


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
