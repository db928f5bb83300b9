"""Figure 3, flip test: GRPO with one channel's dependence on group accuracy reflected. Two panels per backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from asymgrpo.config import Study

NAME = "fig3"
COLUMNS = (("entropy", "entropy (nats)"), ("accuracy", "test accuracy (%)"))


@style.styled
def draw(study: Study) -> Artefact:
    """Figure 3 from ``steps.parquet`` and ``evaluations.parquet`` of its runs; ValueError if one is missing."""
    pairs = shown(study, NAME)
    factor = study.artefact(NAME).settings["ema_factor"]
    needed = [run for run in study.runs(NAME) if run.backbone in pairs]
    accuracy = curves.mean_accuracy(runs.evaluations(study, needed), CURVE_DECODING)
    data = style.tidy(curves.by_quantity(runs.steps(study, needed), accuracy, dict(COLUMNS), factor))

    notes = (seeds_and_band(study), smoothing(factor), accuracy_note(study))

    figure = style.canvas(height=1.4)
    grid = figure.subplots(1, len(COLUMNS) * len(pairs), squeeze=False)[0]
    for index, (backbone, methods) in enumerate(pairs.items()):
        for column, (quantity, title) in enumerate(COLUMNS):
            axes = grid[index * len(COLUMNS) + column]
            part = data[(data["backbone"] == backbone) & (data["quantity"] == quantity)]
            style.draw_curves(axes, part, methods, markers=quantity == "accuracy")
            style.panel(axes, "abcdefgh"[index * len(COLUMNS) + column], f"{study.backbones[backbone].label}\n{title}")
            axes.set_xlabel("Training step")

    entries = list(dict.fromkeys(name for methods in pairs.values() for name in methods))
    style.finish_methods(figure, study, entries, columns=len(entries), footnote=(*notes, assumed_in_short(study, NAME)))
    text = (
        "**Figure 3. Flip test.** GRPO, and GRPO with the advantage of the correct rollouts (EntDecrease) or of the "
        "wrong ones (EntIncrease) reflected around p = 1/2; App. C's linear extension at the undefined endpoints."
    )
    return Artefact(figure, data, caption(study, NAME, text, *notes))
