"""diffrax: JAX, the whole computation under one `jax.jit`. Samples with their own step sizes are a `jax.vmap`.

Gradients: `RecursiveCheckpointAdjoint`, its default, and `BacksolveAdjoint`. (`DirectAdjoint` is not meant for reverse
mode: it would take as many steps as it may at most.)
"""

from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers.case import Case, canonical, leaves, map_state, to_numpy
from benchmarks.peers.contender import Answer, Contender, Counts, Job

ADJOINTS = {"checkpoint": "RecursiveCheckpointAdjoint", "backsolve": "BacksolveAdjoint"}


class Work:
    """The jitted call, its inputs on JAX's side, and a second, counting jit."""

    def __init__(self, case: Case, kind: str | None) -> None:
        import jax
        import jax.numpy as jnp

        self.case = case
        self.kind = kind
        self.jax = jax
        to_jax = lambda x: jnp.asarray(x.detach().numpy())  # noqa: E731
        self.y0 = map_state(to_jax, case.y0)
        self.weights = {name: to_jax(weight) for name, weight in case.field.state_dict().items()}
        self.args = tuple(to_jax(arg) for arg in case.args)
        self.ts = to_jax(case.ts)
        self.field = partial(case.field.array, jnp) if case.gradient else case.field.jax_forward
        self.jitted = jax.jit(partial(self.outputs, self.field))

    def call(self) -> Any:
        return self.jax.block_until_ready(self.jitted(self.y0, self.weights))

    def outputs(self, field: Any, y0: Any, weights: Any) -> Any:
        """Return saved states, counts, and the gradient: what is compiled."""
        if not self.case.gradient:
            return *self.solve(field, y0, weights), None

        def loss(y0: Any, weights: Any) -> Any:
            saved, counts = self.solve(field, y0, weights)
            return sum((leaf[-1] ** 2).sum() for leaf in leaves(saved)), (saved, counts)

        gradient, (saved, counts) = self.jax.grad(loss, argnums=(0, 1), has_aux=True)(y0, weights)
        return saved, counts, gradient

    def solve(self, field: Any, y0: Any, weights: Any) -> tuple[Any, Any]:
        """Return saved states, time axis first, and attempted steps."""
        if not self.case.per_sample:
            return self.solve_one(field, y0, self.args, weights)
        solve = self.jax.vmap(lambda y0, args: self.solve_one(field, y0, args, weights))
        saved, steps = solve(y0, self.args)
        return map_state(lambda leaf: leaf.swapaxes(0, 1), saved), steps

    def solve_one(self, field: Any, y0: Any, args: Any, weights: Any) -> tuple[Any, Any]:
        import diffrax

        case = self.case
        # Tensors that are differentiated go through its args: its backsolve knows no closed-over ones.
        term = diffrax.ODETerm(lambda t, y, weights: field(weights, t, y, *args))
        solution = diffrax.diffeqsolve(
            term,
            diffrax.Dopri5(),
            self.ts[0],
            self.ts[-1],
            None,
            y0,
            weights,
            saveat=diffrax.SaveAt(ts=self.ts[1:]) if case.saved > 1 else diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.PIDController(rtol=case.rtol, atol=case.atol),
            **({} if self.kind is None else {"adjoint": getattr(diffrax, ADJOINTS[self.kind])()}),
        )
        return solution.ys, solution.stats["num_steps"]

    def answer(self, found: Any) -> Answer:
        saved, _, gradient = found
        if gradient is None:
            return Answer(canonical(self.case, saved))
        by_y0, by_weights = gradient
        names = [name for name, _ in self.case.field.named_parameters()]
        parts = [*leaves(by_y0), *(by_weights[name] for name in names)]
        return Answer(canonical(self.case, saved), np.concatenate([to_numpy(part).ravel() for part in parts]))

    def count(self) -> Counts:
        """Count by a callback in the field, compiled apart, so that the timed code has none."""
        calls: list[None] = []

        def counted(*inputs: Any) -> Any:
            self.jax.debug.callback(lambda: calls.append(None))
            return self.field(*inputs)

        def run(work: Any) -> Any:
            calls.clear()
            outputs = self.jax.block_until_ready(self.jax.jit(partial(work, counted))(self.y0, self.weights))
            self.jax.effects_barrier()
            return outputs

        _, steps = run(self.solve)
        forward = len(calls)
        counts = {"evaluations": forward, "steps": int(steps.max())}
        if self.case.gradient:
            run(self.outputs)
            counts["backward"] = len(calls) - forward
        if self.case.per_sample:
            counts["rows"] = forward * self.case.batch
        return counts


def build(kind: str | None, case: Case, device: str) -> Job:
    work = Work(case, kind)
    return Job(work.call, work.answer, work.count)


CONTENDERS = [
    Contender(
        name=":".join(word for word in ("diffrax", kind) if word),
        package="diffrax",
        build=partial(build, kind),
        gradient=kind is not None,
    )
    for kind in (None, *ADJOINTS)
]
