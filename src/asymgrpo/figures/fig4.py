"""Figure 4, the main comparison on the primary backbone: entropy, reward, test accuracy, and the grid of exponents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import Rectangle

from asymgrpo.analysis import curves, runs
from asymgrpo.analysis.intervals import accuracy_intervals
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asymgrpo.config import Study

NAME = "fig4"
CHOSEN = "asymgrpo"
"""The method whose cell the heat map outlines: the exponents that the paper chose."""
CHECKPOINT = "last"
COLUMNS = (("entropy", "Entropy (nats)"), ("reward", "Reward"), ("accuracy", "Test accuracy (%)"))


@style.styled
def draw(study: Study) -> Artefact:
    """Figure 4 from step, evaluation and score files of its runs; ValueError if one is missing."""
    backbone = study.primary
    methods = study.methods_of(NAME, backbone)
    factor = study.artefact(NAME).settings["ema_factor"]
    decoding = study.artefact(NAME).decodings[0]
    needed = [run for run in study.runs(NAME) if run.method in methods and run.backbone == backbone]
    steps = runs.steps(study, needed)
    evaluated = curves.mean_accuracy(runs.evaluations(study, needed), CURVE_DECODING)
    drawn = style.tidy(curves.by_quantity(steps, evaluated, dict(COLUMNS), factor))
    cells = grid_accuracy(study, decoding)

    figure = style.canvas(height=1.55)
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.15))
    for axes, letter, (quantity, title) in zip(panels, "abc", COLUMNS, strict=False):
        style.draw_curves(axes, drawn[drawn["quantity"] == quantity], methods, markers=quantity == "accuracy")
        style.panel(axes, letter, title)
        axes.set_xlabel("Training step")
    _heat_map(panels[3], cells)
    style.panel(panels[3], "d", "Average (%)")

    notes = (
        f"{study.backbones[backbone].label}.",
        seeds_and_band(study),
        smoothing(factor),
        accuracy_note(study),
        f"(d): final average at {decoding}, {CHECKPOINT} checkpoint"
        + ("; outlined: the paper's choice." if CHOSEN in set(cells["method"]) else "."),
    )
    entries = style.by_rows(methods, columns=3)
    style.finish_methods(figure, study, entries, columns=3, footnote=(*notes, assumed_in_short(study, NAME)))
    text = (
        "**Figure 4. AsymGRPO and its baselines.** (a) Entropy of the policy, (b) mean training reward, (c) test "
        "accuracy, (d) final accuracy over the grid of exponents, each cell the mean over seeds of the unweighted mean "
        "over benchmarks; the CSV has an interval for every cell (bootstrap over seeds and problems)."
    )
    return Artefact(figure, pd.concat([drawn, cells], ignore_index=True), caption(study, NAME, text, *notes))


def grid_accuracy(study: Study, decoding: str) -> pd.DataFrame:
    """Final average accuracy (percent) of every cell of the grid on the primary backbone.

    Returns:
        ``quantity`` ("grid"), ``backbone``, ``method``, ``beta_pos``, ``beta_neg``, ``mean``, ``low``, ``high`` (95%
        bootstrap over seeds and problems) and ``raw_seed_<n>``; one row per cell.
    """
    rows = []
    for (beta_pos, beta_neg), method in study.grid().items():
        counts = runs.final_counts(study, study.primary, method, decoding, CHECKPOINT)
        average = accuracy_intervals(counts).iloc[-1]
        rows.append(
            {
                "quantity": "grid",
                "backbone": study.primary,
                "method": method,
                "beta_pos": beta_pos,
                "beta_neg": beta_neg,
                "mean": average["mean"],
                "low": average["low"],
                "high": average["high"],
            }
            | {f"raw_seed_{seed}": average[f"accuracy_seed_{seed}"] for seed in study.seeds}
        )
    return pd.DataFrame(rows)


def _heat_map(axes: Axes, cells: pd.DataFrame) -> None:
    """beta_pos upwards, beta_neg to the right, every cell with its value."""
    table = cells.pivot(index="beta_pos", columns="beta_neg", values="mean").sort_index(ascending=False)
    sns.heatmap(
        table, ax=axes, annot=True, fmt=".1f", cmap="cividis", cbar=False, square=False, linewidths=0.4,
        linecolor="white", annot_kws={"fontsize": 6.5},
    )  # fmt: skip
    shown = table.notna().to_numpy().ravel()  # a grid may have holes
    colours = np.asarray(axes.collections[0].get_facecolor())[shown]
    for text, colour in zip(axes.texts, colours, strict=True):
        text.set_color(style.ink(colour))
    axes.set(xlabel=r"$\beta_-$", ylabel=r"$\beta_+$")
    axes.set_xticklabels([f"{value:g}" for value in table.columns], rotation=0)
    axes.set_yticklabels([f"{value:g}" for value in table.index], rotation=0)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for chosen in cells[cells["method"] == CHOSEN].itertuples():
        column = int(np.flatnonzero(table.columns == chosen.beta_neg)[0])
        row = int(np.flatnonzero(table.index == chosen.beta_pos)[0])
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="#cc3311", linewidth=1.6, clip_on=False))
