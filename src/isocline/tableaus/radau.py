"""Radau IIA with three stages, order 5: coefficients, their eigenvectors, and the collocation polynomial.

References:
    Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.5 (coefficients) and IV.8 (transformation,
    error estimate).
"""

from math import sqrt

S = sqrt(6)

C = ((4 - S) / 10, (4 + S) / 10, 1.0)
"""Nodes."""

A = (
    ((88 - 7 * S) / 360, (296 - 169 * S) / 1800, (-2 + 3 * S) / 225),
    ((296 + 169 * S) / 1800, (88 + 7 * S) / 360, (-2 - 3 * S) / 225),
    ((16 - S) / 36, (16 + S) / 36, 1 / 9),
)
"""The last row are the weights."""

REAL = 3 + 3 ** (2 / 3) - 3 ** (1 / 3)
"""The real eigenvalue of the inverse of A."""

COMPLEX = complex(3 + (3 ** (1 / 3) - 3 ** (2 / 3)) / 2, -(3 ** (5 / 6) + 3 ** (7 / 6)) / 2)
"""One of the two others."""

BACK = (
    (0.09443876248897524, -0.14125529502095421, 0.03002919410514742),
    (0.25021312296533332, 0.20412935229379994, -0.38294211275726192),
    (1.0, 1.0, 0.0),
)
"""T: its columns are the real eigenvector, then real and imaginary part of the complex one, suitably scaled."""

INTO = (
    (4.17871859155190428, 0.32768282076106237, 0.52337644549944951),
    (-4.17871859155190428, -0.32768282076106237, 0.47662355450055044),
    (0.50287263494578682, -2.57192694985560522, 0.59603920482822492),
)
"""The inverse of T."""

ERROR = ((-13 - 7 * S) / 3, (-13 + 7 * S) / 3, -1 / 3)
"""Weights of the stage increments in the error estimate, to which h f(t0, y0) is added."""

DENSE = (
    (13 / 3 + 7 * S / 3, -23 / 3 - 22 * S / 3, 10 / 3 + 5 * S),
    (13 / 3 - 7 * S / 3, -23 / 3 + 22 * S / 3, 10 / 3 - 5 * S),
    (1 / 3, -8 / 3, 10 / 3),
)
"""One row a stage increment: coefficients for theta, theta^2, theta^3 of the polynomial through all of them."""

SLOPE = tuple(row[0] + 2 * row[1] + 3 * row[2] for row in DENSE)
"""Weights of the stage increments in h times the slope of that polynomial at the end of the step."""
