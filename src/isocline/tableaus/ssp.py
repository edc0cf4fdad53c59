"""Strong-stability-preserving methods, for hyperbolic problems: convex combinations of Euler steps."""

from fractions import Fraction as F

from isocline.tableaus.tableau import Tableau, floats, table

# The first two stages are Heun's method, the optimal one of order 2: it is the embedded method.
SSPRK33 = Tableau(
    name="ssprk33",
    order=3,
    a=table(((), (1,), (F(1, 4), F(1, 4)))),
    b=floats((F(1, 6), F(1, 6), F(2, 3))),
    c=(0.0, 1.0, 0.5),
    embedded=(0.5, 0.5, 0.0),
    embedded_order=2,
    dense=table(((1, F(-5, 6)), (0, F(1, 6)), (0, F(2, 3)))),
    dense_order=2,
    citation=(
        "Shu & Osher 1988, J. Comp. Phys. 77, doi:10.1016/0021-9991(88)90177-5; interpolant: Ketcheson, Loczi, "
        "Jangabylova & Kusmanov 2017, J. Sci. Comput., doi:10.1007/s10915-017-0421-z"
    ),
)
