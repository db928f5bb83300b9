"""Proposition 1 in training: entropy changes over REINFORCE's, predicted from its groups and measured, over all steps.

Top: the tabular check, where theory is exact, and how the one unknown, the size of a step, is fitted: on REINFORCE's
own steps, never on a contrast. Below, per backbone: three predictions and the measurement, in the same unit, each
summed over the steps so far; and how often the measured sign of a single step is the predicted one. Runs are paired: at
step 1 every method has the same policy, and of the local backend the same rollouts, the proposition's own setting;
afterwards policies drift. With verl each run draws rollouts of its own from the first step on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asymgrpo.advantages import estimator_from_spec
from asymgrpo.analysis import curves, entropy_change, runs
from asymgrpo.figures import Artefact, assumed_in_short, caption, prop1_tabular, seeds_and_band, shown, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asymgrpo.config import Study

NAME = "prop1"
REFERENCE = "reinforce"
COLUMNS = (
    ("first_order", "First order"),
    ("finite_beta", r"Finite $\beta$"),
    ("with_endpoints", "With endpoints"),
    ("measured", "Measured"),
)
PREDICTIONS = {"first_order": "1st", "finite_beta": r"$\beta$", "with_endpoints": "end"}
COVARIANCES = {"within": ("#222222", "o", "within groups"), "batch": ("#cc6677", "^", "whole batch")}


@style.styled
def draw(study: Study) -> Artefact:
    """The figure from ``steps.parquet`` and ``groups.parquet`` of its runs; ValueError if one is missing."""
    rows = shown(study, NAME)
    contrast, sizes, points = measured_and_predicted(study, list(rows))
    fits = entropy_change.agreement(contrast)
    drawn = summed(entropy_change.scaled(contrast, sizes))

    figure = style.canvas(height=1.25 + 1.12 * len(rows))
    grid = figure.add_gridspec(1 + len(rows), 1, height_ratios=(1.1, *[1.0] * len(rows)))
    letters = iter("abcdefghijklmnopqrstuvw")
    top = grid[0].subgridspec(1, 1 + len(rows), width_ratios=(1.2, *[1.0] * len(rows)))
    exact = prop1_tabular.changes()
    tabular = figure.add_subplot(top[0])
    prop1_tabular.compare(tabular, exact[exact["update"] == "natural"])
    tabular.set(xlabel=r"Modulated $\beta$", ylabel=r"$(\Delta H-\Delta H_{\mathrm{R}})/\eta$")
    style.panel(tabular, next(letters), "Tabular, exact")
    for column, backbone in enumerate(rows, start=1):
        axes = figure.add_subplot(top[column])
        _draw_fit(axes, points[points["backbone"] == backbone], sizes[sizes["backbone"] == backbone])
        style.panel(axes, next(letters), study.backbones[backbone].label)
        axes.set_xlabel(r"Cov$(S,A)$")
        if column == 1:
            axes.set_ylabel(r"$\Delta H$ of REINFORCE")
    for row, (backbone, names) in enumerate(rows.items()):
        methods = [name for name in names if name != REFERENCE]
        part = drawn[drawn["backbone"] == backbone]
        cell = grid[1 + row].subgridspec(1, len(COLUMNS) + 1, width_ratios=(*[1.0] * len(COLUMNS), 0.8))
        first: Axes | None = None
        for column, (quantity, title) in enumerate(COLUMNS):
            axes = figure.add_subplot(cell[column], sharey=first)
            first = first or axes
            _draw_sums(axes, part[part["quantity"] == f"sum_{quantity}"], methods)
            style.panel(axes, next(letters), title)
            axes.tick_params(labelleft=column == 0)
            if row == len(rows) - 1:
                axes.set_xlabel("Step")
        assert first is not None
        first.set_ylabel(study.backbones[backbone].label, fontweight="bold")
        axes = figure.add_subplot(cell[len(COLUMNS)])
        _draw_signs(axes, fits[fits["backbone"] == backbone], methods)
        style.panel(axes, next(letters), "Sign (%)")

    notes = (
        f"Entropy change minus {study.methods[REFERENCE].label}'s of the same seed and step, nats per token, summed "
        "over the steps so far.",
        seeds_and_band(study) + " No smoothing.",
        "Step size: least squares through the origin on REINFORCE's own steps alone.",
        f"Sign as predicted at step 1 (finite beta): {_share_at_first(contrast)} runs.",
    )
    entries = style.by_rows(
        [name for name in dict.fromkeys(name for names in rows.values() for name in names) if name != REFERENCE], 3
    )
    style.finish(
        figure,
        style.handles(entries, markers=False),
        style.labels(study, entries),
        columns=3,
        footnote=(
            *notes,
            "(a): markers measured, dashed first order, solid finite beta; beside it black within groups, red whole "
            "batch.",
            assumed_in_short(study, NAME),
        ),
    )
    text = (
        "**Proposition 1 in training.** Top: tabular policies with exact expectations, measured (markers), first order "
        "(dashed) and finite-beta (solid) entropy change over REINFORCE's; then every step of REINFORCE itself, "
        "measured against the covariance of confidence and advantage, with the fitted line. Below, per backbone, "
        "entropy change minus REINFORCE's: predicted by Prop. 1 (first order in beta; nothing for GRPO, whose "
        "exponents are equal), without the expansion in beta, with the groups that have all or no rollout right as "
        "well, and measured over the step's update on the step's own tokens. Predictions use REINFORCE's groups of the "
        "step and are means over all its groups. Inside a group with all or none right the advantage is constant, so "
        "the first two leave such groups out; the third takes the covariance over the whole batch, as if one softmax "
        "answered all prompts, in which they count. Last column: steps whose measured change has the predicted sign "
        "(1st, beta, end: the three predictions; black, all methods, coloured, each; dashed: chance)."
    )
    data = pd.concat(
        [
            drawn,
            fits.assign(quantity="agreement"),
            sizes.assign(quantity="step_size", method=REFERENCE),
            points.assign(quantity="reinforce_step", method=REFERENCE),
            exact.assign(quantity="tabular"),
        ],
        ignore_index=True,
    )
    numbers = " ".join(_in_words(study, backbone, sizes, fits) for backbone in rows)
    return Artefact(figure, style.tidy(data), caption(study, NAME, text, *notes, numbers))


def measured_and_predicted(study: Study, backbones: list[str]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """:func:`asymgrpo.analysis.entropy_change.contrasts` and ``step_sizes`` of these backbones' runs."""
    needed = [run for run in study.runs(NAME) if run.backbone in backbones]
    estimators = {run.method: estimator_from_spec(study.methods[run.method].estimator) for run in needed}
    steps = runs.steps(study, needed)
    groups = runs.groups(study, [run for run in needed if run.method == REFERENCE])
    contrast = entropy_change.contrasts(steps, groups, estimators, REFERENCE)
    own = steps[steps["method"] == REFERENCE]
    return contrast, *entropy_change.step_sizes(own, groups, estimators[REFERENCE])


def summed(contrast: pd.DataFrame) -> pd.DataFrame:
    """Curves of every quantity, per step (``measured``, ...) and summed from step 1 (``sum_measured``, ...)."""
    names = ["measured", *entropy_change.KINDS]
    sums = contrast.groupby(["backbone", "method", "seed"], sort=False)[names].cumsum().add_prefix("sum_")
    both = pd.concat([contrast, sums], axis=1)
    return style.tidy(
        pd.concat([curves.curves(both, name, 0.0).assign(quantity=name) for name in [*names, *sums]], ignore_index=True)
    )


def _draw_fit(axes: Axes, points: pd.DataFrame, sizes: pd.DataFrame) -> None:
    axes.axhline(0, color="#222222", linewidth=0.6)
    for kind, (colour, marker, _) in COVARIANCES.items():
        axes.plot(
            points[kind], points["change"], marker, color=colour, markersize=1.8, markeredgewidth=0, alpha=0.45,
            linestyle="none",
        )  # fmt: skip
        eta = float(sizes.loc[sizes["kind"] == kind, "eta"].iloc[0])
        if np.isfinite(eta):
            ends = np.array([min(0.0, points[kind].min()), max(0.0, points[kind].max())])
            axes.plot(ends, -eta * ends, color=colour, linewidth=1.0)
    axes.locator_params(nbins=4)


def _draw_sums(axes: Axes, part: pd.DataFrame, methods: list[str]) -> None:
    axes.axhline(0, color="#222222", linewidth=0.6)
    style.draw_curves(axes, part, methods)
    axes.locator_params(axis="x", nbins=3, integer=True)
    axes.locator_params(axis="y", nbins=5)
    if part["mean"].isna().all():
        axes.text(0.5, 0.5, "no positive\nstep size", transform=axes.transAxes, ha="center", va="center", fontsize=6)


def _draw_signs(axes: Axes, fits: pd.DataFrame, methods: list[str]) -> None:
    signs = fits[fits["statistic"] == "sign"]
    axes.axhline(50, color="#999999", linewidth=0.6, linestyle=style.DASHED)
    for position, prediction in enumerate(PREDICTIONS):
        part = signs[signs["prediction"] == prediction].set_index("method")
        for order, method in enumerate(m for m in methods if m in part.index):
            offset = 0.16 + 0.34 * order / max(1, len(methods) - 1)
            axes.plot(
                position + offset, 100 * part.loc[method, "mean"], marker="o", color=style.look(method).colour,
                markersize=2, markeredgewidth=0,
            )  # fmt: skip
        whole = 100 * part.loc[entropy_change.EVERY, ["mean", "low", "high"]].astype(float)
        axes.plot(position - 0.12, whole["mean"], marker="D", color="#222222", markersize=3, markeredgewidth=0)
        axes.vlines(position - 0.12, whole["low"], whole["high"], color="#222222", linewidth=1.0)
    axes.set(xlim=(-0.45, 2.65), ylim=(-4, 104), xticks=range(3), yticks=(0, 50, 100))
    axes.set_xticklabels(PREDICTIONS.values())
    axes.grid(visible=False, axis="x")


def _share_at_first(contrast: pd.DataFrame) -> str:
    first = contrast[contrast["step"] == 1]
    signed = first[(first["finite_beta"] != 0) & (first["measured"] != 0)]
    return f"{int((np.sign(signed['finite_beta']) == np.sign(signed['measured'])).sum())} of {len(signed)}"


def _in_words(study: Study, backbone: str, sizes: pd.DataFrame, fits: pd.DataFrame) -> str:
    """Step sizes, and how each prediction fits over all methods."""
    mine = sizes[sizes["backbone"] == backbone].set_index("kind")
    etas = "; ".join(
        f"{words}: {_estimate(mine.loc[kind, 'eta'], mine.loc[kind, 'low'], mine.loc[kind, 'high'])}, correlation "
        f"{_number(mine.loc[kind, 'correlation'])}"
        for kind, (_, _, words) in COVARIANCES.items()
    )
    whole = fits[(fits["backbone"] == backbone) & (fits["method"] == entropy_change.EVERY)]
    table = whole.set_index(["prediction", "statistic"])
    said = []
    for prediction, words in (
        ("first_order", "first order"),
        ("finite_beta", "finite beta"),
        ("with_endpoints", "with endpoint groups"),
        ("own_groups", "finite beta, each run's own groups"),
    ):
        sign, line = table.loc[(prediction, "sign")], table.loc[(prediction, "correlation")]
        said.append(
            f"{words}: sign as predicted in {_estimate(100 * sign['mean'], 100 * sign['low'], 100 * sign['high'])}% of "
            f"steps, correlation over steps {_estimate(line['mean'], line['low'], line['high'])}"
        )
    return f"{study.backbones[backbone].label}: fitted step size, {etas}. All methods together, {'; '.join(said)}."


def _estimate(mean: float, low: float, high: float) -> str:
    return _number(mean) + (f" [{_number(low)}, {_number(high)}]" if np.isfinite([low, high]).all() else "")


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "undefined"
