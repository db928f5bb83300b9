"""The curves of one method beside those of the methods it is compared with, for the page of that method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from asymgrpo.analysis import curves, runs
from asymgrpo.figures import CURVE_DECODING, Artefact, accuracy_note, seeds_and_band, smoothing, style

if TYPE_CHECKING:
    from asymgrpo.config import Run, Study

COLUMNS = 3
PANELS = (
    ("entropy", "Entropy (nats)"),
    ("accuracy", "Test accuracy (%)"),
    ("reward", "Reward"),
    ("mixed", "Groups right and wrong (%)"),
    ("logprob_gain_correct", "Log-p gain (nats)"),
    ("response_length", "Response length (tokens)"),
)
SMOOTHED_AS = "fig4"
"""The figure whose EMA factor is taken."""


@style.styled
def draw(study: Study, method: str) -> Artefact:
    """The page's figure from ``steps.parquet`` and ``evaluations.parquet`` of its runs; ValueError if one lacks."""
    needed = study.ablation(method)
    names = list(dict.fromkeys(run.method for run in needed))
    factor = study.artefact(SMOOTHED_AS).settings["ema_factor"]
    data = panel_curves(study, needed, factor)

    figure = style.canvas(height=2.9)
    grid = figure.subplots(-(-len(PANELS) // COLUMNS), COLUMNS).ravel()
    for axes, letter, (quantity, title) in zip(grid, "abcdefgh", PANELS, strict=False):
        style.draw_curves(axes, data[data["quantity"] == quantity], names, markers=quantity == "accuracy")
        style.panel(axes, letter, title)
    for axes in grid[-COLUMNS:]:
        axes.set_xlabel("Training step")

    notes = (seeds_and_band(study), smoothing(factor), accuracy_note(study))
    labels = [study.every_method[name].math for name in names]
    style.finish(figure, style.handles(names), labels, columns=len(names), footnote=notes)
    return Artefact(figure, data, " ".join(notes))


def panel_curves(study: Study, needed: list[Run], factor: float) -> pd.DataFrame:
    """Every drawn curve: ``quantity``, ``backbone``, ``method`` and the columns of :func:`curves.seed_curve`."""
    steps = runs.steps(study, needed)
    steps["mixed"] *= 100.0
    accuracy = curves.mean_accuracy(runs.evaluations(study, needed), CURVE_DECODING)
    return style.tidy(curves.by_quantity(steps, accuracy, dict(PANELS), factor))
