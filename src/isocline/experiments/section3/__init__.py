"""The paper's section 3: supervised learning with ODE-Nets (Table 1, Figure 3)."""
