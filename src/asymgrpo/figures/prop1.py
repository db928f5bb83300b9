"""Proposition 1 in training: the entropy change of Pos-Only and Neg-Only over REINFORCE's, predicted and measured.

Left: the tabular check, where theory is exact. Per backbone: what the theory predicts from REINFORCE's own groups (per
unit of step size; a network's parameters set the scale, so only the sign can be compared), the measured difference per
step, and its sum over the first steps. Runs are paired: at step 1 every method has the same policy and the same
rollouts, so that step is the proposition's own setting; afterwards policies drift apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asymgrpo.analysis import curves, runs
from asymgrpo.figures import Artefact, assumed_in_short, caption, prop1_tabular, seeds_and_band, shown, style
from asymgrpo.theory import Channel, finite_beta_channel_change

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "prop1"
REFERENCE = "reinforce"
QUANTITIES = (
    ("predicted", r"Predicted$\,/\,\eta$"),
    ("per_step", "Measured"),
    ("cumulative", "Cumulative"),
)


@style.styled
def draw(study: Study) -> Artefact:
    """The figure from ``steps.parquet`` and ``groups.parquet`` of its runs; ValueError if one is missing."""
    rows = shown(study, NAME)
    # "Training's first steps" are those over which Table 1 averages alpha.
    first = int(study.artefact("table1").settings["alpha_steps"])
    changes = entropy_differences(study, list(rows), first)
    data = style.tidy(
        pd.concat(
            [curves.curves(changes, name, 0.0).assign(quantity=name) for name, _ in QUANTITIES], ignore_index=True
        )
    )
    methods = {name: [m for m in names if m in set(data["method"])] for name, names in rows.items()}

    figure = style.canvas(height=1.3 * len(rows))
    grid = figure.add_gridspec(len(rows), 1 + len(QUANTITIES), width_ratios=(1.15, 1, 1, 1))
    exact = prop1_tabular.changes()
    tabular = figure.add_subplot(grid[:, 0])
    prop1_tabular.compare(tabular, exact[exact["update"] == "natural"])
    tabular.set(xlabel=r"Modulated $\beta$", ylabel=r"$(\Delta H-\Delta H_{\mathrm{REINFORCE}})/\eta$")
    style.panel(tabular, "a", "Tabular, exact")
    letters = iter("bcdefghijklmnopqrstuvw")
    for row, (backbone, names) in enumerate(methods.items()):
        part = data[data["backbone"] == backbone]
        for column, (quantity, title) in enumerate(QUANTITIES):
            axes = figure.add_subplot(grid[row, 1 + column])
            axes.axhline(0, color="#222222", linewidth=0.6)
            style.draw_curves(axes, part[part["quantity"] == quantity], names)
            style.panel(axes, next(letters), title)
            if column == 0:
                axes.set_ylabel(study.backbones[backbone].label, fontweight="bold")
            if row == len(methods) - 1:
                axes.set_xlabel("Training step")

    agreement = sign_agreement(changes)
    notes = (
        "Differences to REINFORCE of the same seed and step (same policy and rollouts at step 1).",
        seeds_and_band(study) + " No smoothing.",
        f"Measured sign as predicted: {_share(agreement[agreement['step'] == 1])} at step 1, "
        f"{_share(agreement)} over the first {changes['step'].max()} steps.",
    )
    entries = style.by_rows(list(dict.fromkeys(name for names in methods.values() for name in names)), columns=3)
    style.finish(
        figure,
        style.handles(entries, markers=False),
        style.labels(study, entries),
        columns=3,
        footnote=(
            *notes,
            "(a): markers measured, dashed first order, solid finite beta.",
            assumed_in_short(study, NAME),
        ),
    )
    text = (
        "**Proposition 1 in training.** (a) Tabular policies with exact expectations: measured (markers), first order "
        "(dashed) and finite-beta (solid). Then per backbone, for each Pos-Only and Neg-Only run minus REINFORCE: the "
        "finite-beta prediction from REINFORCE's groups of the same step, per unit of step size (alpha's sign at small "
        "beta; on a network only its sign can be tested); the measured entropy change over the step's update, on the "
        "step's own tokens; and that difference summed over steps. All in nats per token. Groups "
        "with all or no rollout correct have no covariance, so the prediction leaves them out, although Pos-Only also "
        "silences the former in training, and Neg-Only the latter."
    )
    exact = exact.assign(quantity="tabular")
    return Artefact(figure, pd.concat([data, exact], ignore_index=True), caption(study, NAME, text, *notes))


def entropy_differences(study: Study, backbones: list[str], first: int) -> pd.DataFrame:
    """Pos-/Neg-Only against REINFORCE over the first steps, per run and step.

    Returns:
        ``backbone``, ``method``, ``seed``, ``step``; ``predicted``: finite-beta entropy change over REINFORCE's per
        unit of step size, from REINFORCE's groups (NaN in a step without mixed groups); ``per_step``: measured entropy
        change of the step's update minus REINFORCE's, nats; ``cumulative``: its sum from step 1.
    """
    needed = [run for run in study.runs(NAME) if run.backbone in backbones]
    steps = runs.steps(study, needed)
    steps = steps[steps["step"] <= first].sort_values(["step"], kind="stable")
    steps["change"] = steps["entropy_after"] - steps["entropy"]
    keys = ["backbone", "seed", "step"]
    reference = steps.loc[steps["method"] == REFERENCE, [*keys, "change"]].rename(columns={"change": "reference"})
    channels = {method.name: channel_of(method.beta_pos, method.beta_neg) for method in study.methods.values()}
    modulation = {name: channel for name, channel in channels.items() if channel is not None}
    modulated = steps[steps["method"].isin(modulation)]
    result = modulated[["backbone", "method", "seed", "step", "change"]].merge(reference, on=keys, how="left")
    result["per_step"] = result["change"] - result["reference"]
    result["cumulative"] = result.groupby(["backbone", "method", "seed"])["per_step"].cumsum()

    groups = runs.groups(study, [run for run in needed if run.method == REFERENCE])
    groups = groups[groups["step"] <= first]
    groups["p"] = groups["correct"] / groups["rollouts"]
    groups["gap"] = groups["confidence_correct"] - groups["confidence_wrong"]
    batches = {
        key: (part["p"].to_numpy(copy=True), part["gap"].to_numpy(copy=True)) for key, part in groups.groupby(keys)
    }
    predicted = []
    for row in result.itertuples():
        channel, beta = modulation[row.method]
        predicted.append(finite_beta_channel_change(1.0, beta, *batches[row.backbone, row.seed, row.step], channel))
    result["predicted"] = predicted
    order = {name: position for position, name in enumerate(study.methods)}
    result = result.sort_values(["method", "seed", "step"], key=lambda c: c.map(order) if c.name == "method" else c)
    return result[["backbone", "method", "seed", "step", "predicted", "per_step", "cumulative"]]


def channel_of(beta_pos: float | None, beta_neg: float | None) -> tuple[Channel, float] | None:
    """The channel that these exponents modulate and how strongly; None if it is neither, or both."""
    if beta_pos is None or beta_neg is None or bool(beta_pos) == bool(beta_neg):
        return None
    return ("positive", beta_pos) if beta_pos else ("negative", beta_neg)


def sign_agreement(changes: pd.DataFrame) -> pd.DataFrame:
    """``changes`` with ``agrees``: whether the measured change of the step has the predicted one's sign."""
    known = changes.dropna(subset=["predicted", "per_step"])
    return known.assign(agrees=np.sign(known["predicted"]) == np.sign(known["per_step"]))


def _share(agreement: pd.DataFrame) -> str:
    return f"{int(agreement['agrees'].sum())} of {len(agreement)}"
