"""Schedules: the exponents of every step, and what becomes of entropy, reward and accuracy, beside fixed exponents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from asymgrpo.analysis import curves, runs
from asymgrpo.config import Run
from asymgrpo.figures import (
    CURVE_DECODING,
    Artefact,
    accuracy_note,
    assumed_in_short,
    caption,
    seeds_and_band,
    smoothing,
    style,
)
from asymgrpo.schedules import Exponents, exponents_of_run

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "schedules"
EXPONENTS = (("beta_pos", r"Exponent $\beta_+$"), ("beta_neg", r"Exponent $\beta_-$"))
COLUMNS = (("entropy", "Entropy (nats)"), ("reward", "Reward"), ("accuracy", "Test accuracy (%)"))


@style.styled
def draw(study: Study) -> Artefact:
    """From ``steps.parquet`` and ``evaluations.parquet`` of its runs on the primary backbone; ValueError if one is
    missing."""
    methods = study.methods_of(NAME, study.primary)
    factor = study.artefact(NAME).settings["ema_factor"]
    needed = [run for run in study.runs(NAME) if run.backbone == study.primary]
    steps = runs.steps(study, needed)
    accuracy = curves.mean_accuracy(runs.evaluations(study, needed), CURVE_DECODING)
    used = exponents(study, needed, steps)
    parts = [
        curves.by_quantity(used, accuracy, dict(EXPONENTS), 0.0),
        curves.by_quantity(steps, accuracy, dict(COLUMNS), factor),
    ]
    data = style.tidy(pd.concat(parts, ignore_index=True))

    figure = style.canvas(height=2.9)
    grid = figure.add_gridspec(2, 6)
    places = [grid[0, :3], grid[0, 3:], grid[1, :2], grid[1, 2:4], grid[1, 4:]]
    for place, letter, (quantity, title) in zip(places, "abcde", (*EXPONENTS, *COLUMNS), strict=True):
        axes = figure.add_subplot(place)
        style.draw_curves(axes, data[data["quantity"] == quantity], methods, markers=quantity == "accuracy")
        style.panel(axes, letter, title)
        axes.set_xlabel("Training step")

    notes = (
        f"{study.backbones[study.primary].label}.",
        seeds_and_band(study),
        "(a), (b): as used, worked out from the runs' files.",
        f"(c) to (e): {smoothing(factor)}",
        accuracy_note(study),
    )
    entries = style.by_rows(methods, columns=3)
    style.finish_methods(figure, study, entries, columns=3, footnote=(*notes, assumed_in_short(study, NAME)))
    text = (
        "**Schedules.** Exponents that change while training, which the paper leaves to future work, beside the fixed "
        "ones of GRPO and AsymGRPO. (a), (b) The exponents of every step. (c) Entropy of the policy, (d) mean training "
        "reward, (e) test accuracy. The rules of the schedules are in `config/methods.yaml`; nothing of them was tuned."
    )
    return Artefact(figure, data, caption(study, NAME, text, *notes))


def exponents(study: Study, needed: list[Run], steps: pd.DataFrame) -> pd.DataFrame:
    """The exponents of every step of these runs; those of a schedule follow from the runs' own histograms.

    Args:
        study: of one scale.
        needed: runs of methods that have exponents.
        steps: their rows of ``steps.parquet``.

    Returns:
        ``backbone``, ``method``, ``seed``, ``step``, ``beta_pos``, ``beta_neg``, in the order of the runs.
    """
    rows: list[dict[str, Any]] = []
    of_run = dict(tuple(steps.groupby(list(Run._fields), sort=False)))
    for run in needed:
        part = of_run[run].sort_values("step")
        found = exponents_of_run(study.spec(run)["estimator"], len(part), part["group_accuracy_histogram"].tolist())
        for step, betas in enumerate(found, start=1):
            rows.append({**run._asdict(), "step": step, **betas._asdict()})
    return pd.DataFrame(rows, columns=[*Run._fields, "step", *Exponents._fields])
