"""Rosenbrock methods: linearly implicit Runge-Kutta methods, with the exact Jacobian as part of the formula."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from isocline.tableaus.tableau import table

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class RosenbrockTableau:
    r"""A Rosenbrock method with s stages, in the variables that need no product with the Jacobian.

    With ``W = I - h gamma J``, ``J = df/dy`` and ``f_t = df/dt`` at (t, y):
    ``W u_i = h gamma f(t + c_i h, y + sum_j a_ij u_j) + gamma sum_j coupling_ij u_j + gamma d_i h^2 f_t``,
    ``y1 = y + sum_i b_i u_i``; between the ends ``y(t + theta h) = y + sum_i b_i(theta) u_i``.

    Args:
        name: the lower-case name users write.
        order: p; the local error of y1 is O(h^(p+1)).
        gamma: the diagonal coefficient, one for all stages, so that one matrix serves them all.
        a: the strictly lower triangle: row i holds a_i0 .. a_i(i-1), so the first row is empty.
        coupling: likewise, the coefficients that Hairer & Wanner call c_ij.
        b: weights of y1, length s.
        c: nodes, length s.
        d: weights of f_t, length s.
        error: weights of the error estimate, y1 minus that of an embedded method, length s.
        error_order: q; the estimate is O(h^(q+1)).
        dense: one row a stage: coefficients of b_i(theta) for theta, theta^2, ...
        dense_order: the order up to which the interpolant fulfils the order conditions for all theta.
        citation: author, year, where.

    Raises:
        ValueError: lengths that do not fit.

    References:
        Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.7.

    Example:
        >>> import isocline as iso
        >>> iso.METHODS["rodas5p"].tableau.gamma
        0.21193756319429014
    """

    name: str
    order: int
    gamma: float
    a: Rows
    coupling: Rows
    b: tuple[float, ...]
    c: tuple[float, ...]
    d: tuple[float, ...]
    error: tuple[float, ...]
    error_order: int
    dense: Rows
    dense_order: int
    citation: str

    def __post_init__(self) -> None:
        """Check that the lengths fit; the order conditions are the tests' business."""
        s = self.stages
        triangles = all([len(row) for row in rows] == list(range(s)) for rows in (self.a, self.coupling))
        if not triangles or any(len(row) != s for row in (self.c, self.d, self.error, self.dense)):
            raise ValueError(
                f"tableau {self.name!r}: with {s} weights, a and coupling need rows of length 0..{s - 1}, and c, d, "
                f"error and dense {s} entries"
            )

    def __repr__(self) -> str:
        """Say which it is, without its numbers."""
        return f"RosenbrockTableau({self.name!r}, order={self.order}, stages={self.stages})"

    def __hash__(self) -> int:
        """Hash cheaply."""
        return hash(self.name)

    @property
    def stages(self) -> int:
        """Number of stages s."""
        return len(self.b)


def _rodas(name: str, *, a: Rows, coupling: Rows, dense: Rows, **more: object) -> RosenbrockTableau:
    """Return a stiffly accurate method of the Rodas family.

    The last stage is the error estimate, and is added to the argument of its own f to give y1. Of the interpolant
    ``(1 - theta) y0 + theta (y1 + (1 - theta) (D_1 + theta D_2 + ...))`` the rows of ``dense`` give the D_r as sums
    over the stages.
    """
    b = (*a[-1], 1.0)
    rows = []
    for weight, *shape in zip(b, *dense, strict=True):
        polynomial = [weight, *(0.0 for _ in shape), 0.0]
        for power, coefficient in enumerate(shape):
            polynomial[power] += coefficient
            polynomial[power + 1] -= coefficient
        rows.append(tuple(polynomial))
    error = (*(0.0 for _ in a[-1]), 1.0)
    return RosenbrockTableau(name, a=a, coupling=coupling, b=b, error=error, dense=tuple(rows), **more)  # type: ignore[arg-type]


def _over(rows: Sequence[Sequence[float]], triangle: Sequence[Sequence[float]]) -> Rows:
    """Return rows times the inverse of a lower triangle (diagonal included): the same sums over u instead of k."""
    found = []
    for row in rows:
        x = list(row)
        for j in reversed(range(len(x))):
            x[j] = (x[j] - sum(x[i] * triangle[i][j] for i in range(j + 1, len(x)))) / triangle[j][j]
        found.append(tuple(x))
    return tuple(found)


def _ode23s() -> RosenbrockTableau:
    """Return the pair of MATLAB's ode23s, which is given by stages k_i: here ``h k = u / Gamma``."""
    g = 1 / (2 + sqrt(2))
    e = 6 + sqrt(2)
    gammas = ((g,), (-g, g), (g * (e - 2), -g * e, g))
    unit = ((1.0,), (0.0, 1.0), (0.0, 0.0, 1.0))
    inverse = _over(unit, gammas)
    theta, squared = (1 / (1 - 2 * g), -2 * g / (1 - 2 * g), 0.0), (-1 / (1 - 2 * g), 1 / (1 - 2 * g), 0.0)
    return RosenbrockTableau(
        name="rosenbrock23",
        order=2,
        gamma=g,
        a=_over(((), (0.5,), (0.0, 1.0)), gammas),
        coupling=tuple(tuple(-x for x in row[:-1]) for row in inverse),
        b=_over(((0.0, 1.0, 0.0),), gammas)[0],
        c=(0.0, 0.5, 1.0),
        d=(g, 0.0, -g),
        error=_over(((-1 / 6, 1 / 3, -1 / 6),), gammas)[0],
        error_order=2,
        dense=tuple(zip(*_over((theta, squared), gammas), strict=True)),
        dense_order=2,
        citation="Shampine & Reichelt 1997, SIAM J. Sci. Comput. 18, doi:10.1137/S1064827594276424 (ode23s)",
    )


ROSENBROCK23 = _ode23s()

RODAS4 = _rodas(
    "rodas4",
    order=4,
    gamma=0.25,
    a=table(
        (
            (),
            (1.544,),
            (0.9466785280815826, 0.2557011698983284),
            (3.314825187068521, 2.896124015972201, 0.9986419139977817),
            (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950),
            (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 1),
        )
    ),
    coupling=(
        (),
        (-5.6688,),
        (-2.430093356833875, -0.2063599157091915),
        (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
        (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160),
        (8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054),
    ),
    c=(0.0, 0.386, 0.21, 0.63, 1.0, 1.0),
    d=(0.25, -0.1043, 0.1035, -0.0362, 0.0, 0.0),
    error_order=3,
    dense=(
        (10.12623508344586, -7.487995877610167, -34.80091861555747, -7.992771707568823, 1.025137723295662, 0.0),
        (-0.6762803392801253, 6.087714651680015, 16.43084320892478, 24.76722511418386, -6.594389125716872, 0.0),
    ),
    dense_order=3,
    citation="Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.7 (RODAS)",
)

RODAS5P = _rodas(
    "rodas5p",
    order=5,
    gamma=0.21193756319429014,
    a=table(
        (
            (),
            (3,),
            (2.849394379747939, 0.45842242204463923),
            (-6.954028509809101, 2.489845061869568, -10.358996098473584),
            (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
            (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946),
            (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946, 1),
            (
                *(-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256),
                *(0.030198172008377946, 1, 1),
            ),
        )
    ),
    coupling=(
        (),
        (-14.155112264123755,),
        (-17.97296035885952, -2.859693295451294),
        (147.12150275711716, -1.41221402718213, 71.68940251302358),
        (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
        (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
        (
            *(30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623),
            -28.087943162872662,
        ),
        (
            *(37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047, -40.06618937091002),
            *(-54.66780262877968, -9.48861652309627),
        ),
    ),
    c=(0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0),
    d=(
        *(0.21193756319429014, -0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069),
        *(0.0, 0.0, 0.0),
    ),
    error_order=4,
    dense=(
        (
            *(25.948786856663858, -2.5579724845846235, 10.433815404888879, -2.3679251022685204, 0.524948541321073),
            *(1.1241088310450404, 0.4272876194431874, -0.17202221070155493),
        ),
        (
            *(-9.91568850695171, -0.9689944594115154, 3.0438037242978453, -24.495224566215796, 20.176138334709044),
            *(15.98066361424651, -6.789040303419874, -6.710236069923372),
        ),
        (
            *(11.419903575922262, 2.8879645146136994, 72.92137995996029, 80.12511834622643, -52.072871366152654),
            *(-59.78993625266729, -0.15582684282751913, 4.883087185713722),
        ),
    ),
    dense_order=4,
    citation="Steinebach 2023, BIT Numer. Math. 63, doi:10.1007/s10543-023-00967-x",
)

ROSENBROCK: dict[str, RosenbrockTableau] = {tableau.name: tableau for tableau in (ROSENBROCK23, RODAS4, RODAS5P)}
"""All Rosenbrock tables by name."""
