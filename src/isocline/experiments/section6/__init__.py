"""Section 6 of the paper, "Scope and Limitations", and its claims on gradients: one file an experiment.

References:
    R. T. Q. Chen, Y. Rubanova, J. Bettencourt & D. Duvenaud 2018, Neural Ordinary Differential Equations,
    arXiv:1806.07366.
"""
