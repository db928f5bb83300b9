"""Proposition 1 on tabular policies, where every expectation is exact: measured against predicted entropy. No runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asymgrpo.analysis.tabular import Update, entropy_changes, random_policies
from asymgrpo.figures import Artefact, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asymgrpo.config import Study

NAME = "prop1_tabular"
PROMPTS, ACTIONS, SEED = 512, 16, 0
ETA = 1e-3
BETAS = tuple(np.linspace(0.0, 1.0, 21).round(2).tolist())
CHANNELS = {"positive": ("#0b4a96", "^", r"$\beta_+$ only"), "negative": ("#e0600f", "v", r"$\beta_-$ only")}
UPDATES: tuple[tuple[Update, str], ...] = (("natural", "Natural gradient"), ("softmax", "Softmax policy gradient"))


@style.styled
def draw(study: Study) -> Artefact:
    """Prop. 1's first order and the finite-beta prediction against exact entropy changes; needs no run."""
    data = changes()
    figure = style.canvas(height=1.75)
    panels = figure.subplots(1, len(UPDATES))
    for axes, letter, (update, title) in zip(panels, "ab", UPDATES, strict=True):
        compare(axes, data[data["update"] == update])
        style.panel(axes, letter, title)
        axes.set_xlabel(r"$\beta$ of the one modulated channel")
    panels[0].set_ylabel(r"$(\Delta H-\Delta H_{\mathrm{REINFORCE}})/\eta$ (nats)")
    handles, labels = panels[0].get_legend_handles_labels()
    setting = f"{PROMPTS} random softmax policies over {ACTIONS} actions, one step of size {ETA:g}, exact expectations."
    style.finish(figure, handles, labels, columns=3, footnote=(setting, "Predictions: for the natural gradient."))
    text = (
        "**Proposition 1 on tabular policies.** Entropy change of one step with one channel modulated, minus that of "
        "REINFORCE's step, over the step size. Markers: measured. Lines: predicted, to first order in beta "
        "(dashed, $\\pm\\beta\\alpha$) and at finite beta (solid). (a) The natural-gradient step, which the "
        "first-order formula describes. (b) The plain policy-gradient step of a softmax, for which only the sign "
        "carries over."
    )
    return Artefact(figure, data, f"{text}\n\n{setting} No training.")


def changes() -> pd.DataFrame:
    """:func:`asymgrpo.analysis.tabular.entropy_changes` for both updates, every value also divided by the step size."""
    policies = random_policies(PROMPTS, ACTIONS, SEED)
    data = pd.concat([entropy_changes(policies, BETAS, ETA, update) for update, _ in UPDATES], ignore_index=True)
    for column in ("measured", "first_order", "finite_beta"):
        data[f"{column}_per_eta"] = data[column] / data["eta"]
    return data


def compare(axes: Axes, part: pd.DataFrame) -> None:
    """Draw measured (markers), first-order (dashed) and finite-beta (solid) changes of one kind of update."""
    axes.axhline(0, color="#222222", linewidth=0.6)
    for channel, (colour, marker, label) in CHANNELS.items():
        rows = part[part["channel"] == channel]
        axes.plot(
            rows["beta"], rows["measured_per_eta"], marker, color=colour, markersize=3, markevery=2, zorder=4,
            label=f"{label}: measured",
        )  # fmt: skip
        axes.plot(
            rows["beta"], rows["first_order_per_eta"], color=colour, linestyle=style.DASHED, linewidth=0.8,
            label=f"{label}: first order",
        )  # fmt: skip
        axes.plot(rows["beta"], rows["finite_beta_per_eta"], color=colour, label=f"{label}: finite " + r"$\beta$")
    axes.margins(x=0.02)
