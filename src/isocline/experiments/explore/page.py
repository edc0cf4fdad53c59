"""The page itself, a Streamlit script: `isocline explore RUN` starts it with the run's folder as its argument."""

import sys
from math import log10
from pathlib import Path

import streamlit as st
from torch import Tensor

from isocline.experiments.explore.figures import by_tolerance, phase_plane
from isocline.experiments.explore.found import subjects_of
from isocline.experiments.explore.subject import Subject
from isocline.experiments.explore.work import METHODS, TOLERANCES, Cost, Plane, cost, exact_end, paths


@st.cache_resource(show_spinner="reading the run")
def _subjects(run: str) -> dict[str, Subject]:
    return {subject.title: subject for subject in subjects_of(Path(run))}


@st.cache_data(show_spinner="solving exactly")
def _exact(run: str, title: str) -> Tensor:
    return exact_end(_subjects(run)[title])


@st.cache_data(show_spinner="solving at every tolerance")
def _costs(run: str, title: str, method: str) -> list[Cost]:
    return [cost(_subjects(run)[title], method, tolerance, _exact(run, title)) for tolerance in TOLERANCES]


@st.cache_data(show_spinner="following paths")
def _paths(run: str, title: str, method: str, tolerance: float) -> tuple[Tensor, Plane]:
    ways = paths(_subjects(run)[title], method, tolerance)
    return ways, Plane.of(ways)


def page(run: str) -> None:
    """Lays it out, anew after each change of a setting."""
    st.set_page_config(page_title="isocline explore", layout="wide")
    subjects = _subjects(run)
    st.sidebar.caption(f"trained in {run}")
    title = st.sidebar.selectbox("model", list(subjects))
    method = st.sidebar.selectbox("method", METHODS)
    tolerance = st.sidebar.select_slider(
        "tolerance (rtol = atol)", TOLERANCES[::-1], 1e-3, format_func=lambda x: f"1e{log10(x):.0f}"
    )
    subject = subjects[title]
    start, end = subject.ts
    t = st.sidebar.slider("time of the slope field", start, end, start, (end - start) / 20)
    st.title(title)
    costs = _costs(run, title, method)
    chosen = costs[TOLERANCES.index(tolerance)]
    shown = {
        "field evaluations": str(chosen.evaluations),
        "steps": f"{chosen.accepted}",
        "rejected": f"{chosen.rejected}",
        "relative error at the end": f"{chosen.error:.1e}",
    }
    for column, (label, value) in zip(st.columns(len(shown)), shown.items(), strict=True):
        column.metric(label, value)
    left, right = st.columns(2)
    left.pyplot(by_tolerance(costs, chosen))
    ways, plane = _paths(run, title, method, tolerance)
    right.pyplot(phase_plane(subject, ways, plane, t))
    numbers = subject.y0[0].numel()
    st.caption(
        f"{len(subject.y0)} states of {numbers} numbers each, solved together. "
        + ("" if numbers == 2 else f"The plane is that in which they vary most: {plane.share:.0%} of their variance. ")
        + "Errors are distances from a solve in float64, over its norm."
    )


if __name__ == "__main__":
    page(sys.argv[1])
