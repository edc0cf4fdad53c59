"""Section 5 of the paper, "A generative latent function time-series model": one file an experiment.

References:
    R. T. Q. Chen, Y. Rubanova, J. Bettencourt & D. Duvenaud 2018, Neural Ordinary Differential Equations,
    arXiv:1806.07366.
"""
