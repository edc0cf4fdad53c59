"""Energy of a Kepler orbit over a thousand periods: splitting methods beside others of the same cost.

    python benchmarks/kepler.py            # prints the table, writes benchmarks/results/kepler.json and the figure

The orbit has eccentricity 0.3. All methods have steps of fixed size, chosen so that each costs about 60 evaluations of
f a period (yoshida8, which makes 30 a step, 240).
"""

from pathlib import Path

import torch

HERE = Path(__file__).parent
RESULT = HERE / "results" / "kepler.json"
FIGURE = HERE.parent / "docs" / "figures" / "kepler.png"
STEPS = {"leapfrog": 30, "yoshida4": 10, "yoshida6": 10, "yoshida8": 8, "rk4": 15, "tsit5": 10}
"""Steps a period."""
PERIODS, SAMPLES, ECCENTRICITY = 1000, 400, 0.3
F64 = torch.float64
