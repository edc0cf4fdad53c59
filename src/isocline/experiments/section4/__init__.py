"""Section 4 of the paper, "Continuous Normalizing Flows": one file a figure.

References:
    R. T. Q. Chen, Y. Rubanova, J. Bettencourt & D. Duvenaud 2018, Neural Ordinary Differential Equations,
    arXiv:1806.07366.
"""
