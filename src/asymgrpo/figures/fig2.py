"""Figure 2, channel isolation: what modulating one channel does to entropy, accuracy, solved groups and confidence.

Rows are backbones. Columns: (a, e) entropy; (b, f) test accuracy; (c, g) fraction of groups with every rollout right
(above) and with none right (below); (d, h) gain of log-probability on correct rollouts over the step's update.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from asymgrpo.analysis import curves, runs
from asymgrpo.figures import (
    CURVE_DECODING,
    Artefact,
    accuracy_note,
    assumed_in_short,
    caption,
    seeds_and_band,
    shown,
    smoothing,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asymgrpo.config import Run, Study

NAME = "fig2"
COLUMNS = (
    ("entropy", "Entropy (nats)"),
    ("accuracy", "Test accuracy (%)"),
    ("solved", "Solved (%)"),
    ("logprob_gain_correct", "Log-p gain (nats)"),
)


@style.styled
def draw(study: Study) -> Artefact:
    """Figure 2 from ``steps.parquet`` and ``evaluations.parquet`` of its runs; ValueError if one is missing."""
    rows = shown(study, NAME)
    factor = study.artefact(NAME).settings["ema_factor"]
    needed = [run for run in study.runs(NAME) if run.backbone in rows]
    data = step_curves(study, needed, factor)

    notes = (seeds_and_band(study), smoothing(factor), accuracy_note(study))

    figure = style.canvas(height=1.45 * len(rows))
    grid = figure.add_gridspec(len(rows), len(COLUMNS))
    letters = iter("abcdefghijklmnop")
    for row, (backbone, methods) in enumerate(rows.items()):
        part = data[data["backbone"] == backbone]
        for column, (quantity, title) in enumerate(COLUMNS):
            cell = grid[row, column]
            if quantity == "solved":
                upper, lower = cell.subgridspec(2, 1, hspace=0.0).subplots(sharex=True)  # type: ignore[misc]
                _draw(upper, part, "all_solved", methods)
                _draw(lower, part, "none_solved", methods)
                upper.set_ylabel("all")
                lower.set_ylabel("none")
                axes = [upper, lower]
            else:
                only = figure.add_subplot(cell)
                _draw(only, part, quantity, methods)
                axes = [only]
            style.panel(axes[0], next(letters), title)
            if column == 0:
                axes[0].set_ylabel(study.backbones[backbone].label, fontweight="bold")
            if row == len(rows) - 1:
                axes[-1].set_xlabel("Training step")

    entries = style.in_columns(list(dict.fromkeys(name for methods in rows.values() for name in methods)))
    style.finish_methods(figure, study, entries, columns=3, footnote=(*notes, assumed_in_short(study, NAME)))
    text = (
        "**Figure 2. Channel isolation.** Modulating only the positive channel (Pos-Only) or only the negative one "
        "(Neg-Only) of REINFORCE, beside a uniform entropy bonus. Columns: entropy of the policy (full vocabulary, "
        "mean over response tokens); test accuracy; groups with all (above) and with no rollout correct (below); mean "
        "over correct rollouts of the log-probability after the step's update minus before it."
    )
    return Artefact(figure, data, caption(study, NAME, text, *notes))


def step_curves(study: Study, needed: list[Run], factor: float) -> pd.DataFrame:
    """Every drawn curve: ``quantity``, ``backbone``, ``method`` and the columns of :func:`curves.seed_curve`.

    Fractions and accuracies in percent, the rest in the units of :mod:`asymgrpo.records`.
    """
    steps = runs.steps(study, needed)
    steps[["none_solved", "all_solved"]] *= 100.0
    accuracy = curves.mean_accuracy(runs.evaluations(study, needed), CURVE_DECODING)
    quantities = ("entropy", "accuracy", "all_solved", "none_solved", "logprob_gain_correct")
    return style.tidy(curves.by_quantity(steps, accuracy, quantities, factor))


def _draw(axes: Axes, part: pd.DataFrame, quantity: str, methods: list[str]) -> None:
    style.draw_curves(axes, part[part["quantity"] == quantity], methods, markers=quantity == "accuracy")
