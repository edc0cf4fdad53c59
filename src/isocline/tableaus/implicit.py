"""Diagonally implicit methods whose first stage is explicit (ESDIRK), for stiff problems."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction as F
from math import sqrt

from isocline.tableaus.tableau import Sum, floats, hermite, table

REACH = 3
"""A stage's first guess extrapolates through the slopes at so many earlier nodes."""


@dataclass(frozen=True)
class ImplicitTableau:
    r"""A diagonally implicit Runge-Kutta method with an explicit first stage and one diagonal element gamma.

    ``k_i = f(t + c_i h, y + h sum_{j<=i} a_ij k_j)`` with ``a_ii = gamma`` in all stages but the first, where it is 0.
    The method is stiffly accurate: the new state is the last stage's, whose slope is the next step's first.

    Args:
        name: the lower-case name users write.
        order: p; the local error of y1 is O(h^(p+1)).
        a: the lower triangle with its diagonal: row i holds a_i0 .. a_ii; the last row is also the weights b.
        c: nodes, length s.
        embedded: weights of the embedded method whose difference to y1 estimates the error.
        embedded_order: its order.
        dense: one row a stage: coefficients of b_i(theta) for theta, theta^2, ...
        dense_order: the order up to which the interpolant fulfils the order conditions for all theta.
        citation: author, year, where.
        explicit: for a method that can treat one part of f explicitly (IMEX): the strictly lower triangle of the
            explicit method, of the same nodes and weights.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    c: tuple[float, ...]
    embedded: tuple[float, ...]
    embedded_order: int
    dense: tuple[tuple[float, ...], ...]
    dense_order: int
    citation: str
    explicit: tuple[tuple[float, ...], ...] | None = None
    before: tuple[Sum, ...] = field(init=False, repr=False, compare=False)
    """The rows of a without their diagonal and zeros: pairs (index of a stage, weight)."""
    beside: tuple[Sum, ...] = field(init=False, repr=False, compare=False)
    """The rows of ``explicit`` without zeros."""
    sums: tuple[Sum, Sum] = field(init=False, repr=False, compare=False)
    """The weights b and those of the error estimate without zeros."""
    guesses: tuple[Sum, ...] = field(init=False, repr=False, compare=False)
    """For each stage a first guess of its slope, from earlier ones."""

    def __post_init__(self) -> None:
        """Check the form; the order conditions are the tests' business."""
        s = len(self.a)
        lengths = [len(row) for row in self.a]
        if lengths != list(range(1, s + 1)) or {len(self.c), len(self.dense), len(self.embedded)} != {s}:
            raise ValueError(
                f"tableau {self.name!r}: with {s} stages, a needs rows of length 1..{s}, and c, dense and embedded "
                f"{s} entries"
            )
        diagonal = [row[-1] for row in self.a]
        if s < 2 or diagonal[0] != 0 or len(set(diagonal[1:])) > 1 or not diagonal[1] > 0:
            raise ValueError(f"tableau {self.name!r}: the diagonal must be 0, gamma, gamma, ..., got {diagonal}")
        if self.explicit is not None and [len(row) for row in self.explicit] != list(range(s)):
            raise ValueError(f"tableau {self.name!r}: explicit needs rows of length 0..{s - 1}")
        error = [x - y for x, y in zip(self.b, self.embedded, strict=True)]
        object.__setattr__(self, "before", tuple(_terms(row[:-1]) for row in self.a))
        object.__setattr__(self, "beside", tuple(map(_terms, self.explicit or ())))
        object.__setattr__(self, "sums", (_terms(self.b), _terms(error)))
        object.__setattr__(self, "guesses", tuple(_extrapolation(self.c[:i], self.c[i]) for i in range(s)))

    def __repr__(self) -> str:
        """Say which it is, without its numbers."""
        return f"ImplicitTableau({self.name!r}, order={self.order}, stages={self.stages})"

    def __hash__(self) -> int:
        """Hash cheaply."""
        return hash(self.name)

    @property
    def b(self) -> tuple[float, ...]:
        """Weights of y1."""
        return self.a[-1]

    @property
    def gamma(self) -> float:
        """The diagonal element."""
        return self.a[1][1]

    @property
    def stages(self) -> int:
        """Number of stages s."""
        return len(self.a)


def _terms(row: Sequence[float]) -> Sum:
    return tuple((i, weight) for i, weight in enumerate(row) if weight != 0.0)


def _extrapolation(nodes: Sequence[float], c: float) -> Sum:
    """Weights of the polynomial through values at the nearest distinct nodes, at c."""
    nearest: list[int] = []
    for i in sorted(range(len(nodes)), key=lambda i: (abs(nodes[i] - c), -i)):
        if len(nearest) < REACH and all(abs(nodes[i] - nodes[j]) > 1e-9 for j in nearest):
            nearest.append(i)
    weights = []
    for i in nearest:
        weight = 1.0
        for j in nearest:
            weight *= (c - nodes[j]) / (nodes[i] - nodes[j]) if j != i else 1.0
        weights.append((i, weight))
    return tuple((i, weight) for i, weight in weights if abs(weight) > 1e-9)


IMPLICIT_EULER = ImplicitTableau(
    name="implicit_euler",
    order=1,
    a=((0.0,), (0.0, 1.0)),
    c=(0.0, 1.0),
    embedded=(0.5, 0.5),
    embedded_order=2,
    dense=((0.0,), (1.0,)),
    dense_order=1,
    citation="Curtiss & Hirschfelder 1952, PNAS 38, doi:10.1073/pnas.38.3.235; error beside the trapezoidal rule",
)


def _trbdf2() -> ImplicitTableau:
    d, w = 1 - sqrt(0.5), sqrt(0.125)
    b = w, w, d
    return ImplicitTableau(
        name="trbdf2",
        order=2,
        a=((0.0,), (d, d), b),
        c=(0.0, 2 * d, 1.0),
        embedded=((1 - w) / 3, (3 * w + 1) / 3, d / 3),
        embedded_order=3,
        dense=hermite([F(x) for x in b]),
        dense_order=2,
        citation="Bank et al. 1985; Hosea & Shampine 1996, Appl. Numer. Math. 20, doi:10.1016/0168-9274(95)00115-8",
    )


def _kvaerno3() -> ImplicitTableau:
    g = 0.4358665215084590  # the root of 6 g^3 - 18 g^2 + 9 g - 1 that makes it L-stable
    third = (-4 * g**2 + 6 * g - 1) / (4 * g), (1 - 2 * g) / (4 * g), g
    last = (6 * g - 1) / (12 * g), -1 / ((24 * g - 12) * g), (-6 * g**2 + 6 * g - 1) / (6 * g - 3), g
    return ImplicitTableau(
        name="kvaerno3",
        order=3,
        a=((0.0,), (g, g), third, last),
        c=(0.0, 2 * g, 1.0, 1.0),
        embedded=(*third, 0.0),
        embedded_order=2,
        dense=hermite([F(x) for x in last]),
        dense_order=3,
        citation="Kvaerno 2004, BIT 44, doi:10.1023/B:BITN.0000046811.70614.38",
    )


_KVAERNO5_LAST = (
    0.13659751177640291,
    0.0,
    -0.05496908796538376,
    -0.04118626728321046,
    0.62993304899016403,
    0.06962479448202728,
    0.26,
)

KVAERNO5 = ImplicitTableau(
    name="kvaerno5",
    order=5,
    a=(
        (0.0,),
        (0.26, 0.26),
        (0.13, 0.84033320996790809, 0.26),
        (0.22371961478320505, 0.47675532319799699, -0.06470895363112615, 0.26),
        (0.16648564323248321, 0.10450018841591720, 0.03631482272098715, -0.13090704451073998, 0.26),
        (0.13855640231268224, 0.0, -0.04245337201752043, 0.02446657898003141, 0.61943039072480676, 0.26),
        _KVAERNO5_LAST,
    ),
    c=(0.0, 0.52, 1.23033320996790809, 0.89576598435007588, 0.43639360985864758, 1.0, 1.0),
    embedded=(0.13855640231268224, 0.0, -0.04245337201752043, 0.02446657898003141, 0.61943039072480676, 0.26, 0.0),
    embedded_order=4,
    # The fourth-order quartics that continue the slope from step to step have two parameters left; these values make
    # the fifth-order residuals smallest (least squares over the step).
    dense=(
        (1.0, -2.128025814985339, 1.8024416770762786, -0.5378183503145395),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 0.4850051293281821, -1.1898866105178967, 0.6499123932243313),
        (0.0, -2.5430491190770974, 4.9213531690213586, -2.4194903172274698),
        (0.0, 3.557111594224461, -4.594490992488263, 1.6673124472539678),
        (0.0, 0.3899685001959696, -0.5014378224638336, 0.18109411674988962),
        (0.0, 0.2389897103138131, -0.4379794206276313, 0.4589897103138171),
    ),
    dense_order=4,
    citation="Kvaerno 2004, BIT 44, doi:10.1023/B:BITN.0000046811.70614.38",
)

_KENCARP4_B = (F(82889, 524892), 0, F(15625, 83664), F(69875, 102672), F(-2260, 8211), F(1, 4))

KENCARP4 = ImplicitTableau(
    name="kencarp4",
    order=4,
    a=table(
        (
            (0,),
            (F(1, 4), F(1, 4)),
            (F(8611, 62500), F(-1743, 31250), F(1, 4)),
            (F(5012029, 34652500), F(-654441, 2922500), F(174375, 388108), F(1, 4)),
            (
                F(15267082809, 155376265600),
                F(-71443401, 120774400),
                F(730878875, 902184768),
                F(2285395, 8070912),
                F(1, 4),
            ),
            _KENCARP4_B,
        )
    ),
    c=floats((0, F(1, 2), F(83, 250), F(31, 50), F(17, 20), 1)),
    embedded=floats(
        (
            F(4586570599, 29645900160),
            0,
            F(178811875, 945068544),
            F(814220225, 1159782912),
            F(-3700637, 11593932),
            F(61727, 225920),
        )
    ),
    embedded_order=3,
    dense=table(
        (
            (F(6943876665148, 7220017795957), F(-54480133, 30881146), F(6818779379841, 7100303317025)),
            (0, 0, 0),
            (F(7640104374378, 9702883013639), F(-11436875, 14766696), F(2173542590792, 12501825683035)),
            (F(-20649996744609, 7521556579894), F(174696575, 18121608), F(-31592104683404, 5083833661969)),
            (F(8854892464581, 2390941311638), F(-12120380, 966161), F(61146701046299, 7138195549469)),
            (F(-11397109935349, 6675773540249), F(3843, 706), F(-17219254887155, 4939391667607)),
        )
    ),
    dense_order=3,
    explicit=table(
        (
            (),
            (F(1, 2),),
            (F(13861, 62500), F(6889, 62500)),
            (
                F(-116923316275, 2393684061468),
                F(-2731218467317, 15368042101831),
                F(9408046702089, 11113171139209),
            ),
            (
                F(-451086348788, 2902428689909),
                F(-2682348792572, 7519795681897),
                F(12662868775082, 11960479115383),
                F(3355817975965, 11060851509271),
            ),
            (
                F(647845179188, 3216320057751),
                F(73281519250, 8382639484533),
                F(552539513391, 3454668386233),
                F(3354512671639, 8306763924573),
                F(4040, 17871),
            ),
        )
    ),
    citation="Kennedy & Carpenter 2003, Appl. Numer. Math. 44, doi:10.1016/S0168-9274(02)00138-1: ARK4(3)6L[2]SA",
)

IMPLICIT: dict[str, ImplicitTableau] = {
    tableau.name: tableau for tableau in (IMPLICIT_EULER, _trbdf2(), _kvaerno3(), KVAERNO5, KENCARP4)
}
"""All diagonally implicit tables by name."""
