"""Figure 1: the magnitude of the advantage of correct (a) and of wrong (b) rollouts over group accuracy. No runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asymgrpo.advantages import negative_magnitude, positive_magnitude
from asymgrpo.figures import Artefact, assumed_in_short, caption, style

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "fig1"
PANELS = (
    ("positive", r"Correct rollouts, $A_+(p)$", positive_magnitude),
    ("negative", r"Wrong rollouts, $|A_-(p)|$", negative_magnitude),
)
TOP = 4.0  # of the axis: beta = 1 leaves it at p = 1/5
NAMES = {0.0: " (REINFORCE)", 0.5: " (GRPO)"}


@style.styled
def draw(study: Study) -> Artefact:
    """Figure 1 from Eq. 5 alone; dots are the accuracies that a group of the study's size can have."""
    betas = [float(beta) for beta in study.artefact(NAME).settings["betas"]]
    group = int(study.settings["training"]["rollout"]["group_size"])
    data = magnitudes(betas, group)

    figure = style.canvas(height=1.75)
    lines = []
    for axes, letter, (channel, title, _) in zip(figure.subplots(1, 2), "ab", PANELS, strict=True):
        for index, beta in enumerate(betas):
            part = data[(data["channel"] == channel) & (data["beta"] == beta)]
            (line,) = axes.plot(part["p"], part["magnitude"], **style.beta_look(index), zorder=3 + index / 10)
            dots = part[part["feasible"]]
            axes.plot(dots["p"], dots["magnitude"], "o", color=line.get_color(), markersize=2, zorder=3 + index / 10)
            if channel == "positive":
                lines.append(line)
        axes.set(xlim=(0, 1), ylim=(0, TOP), xlabel="Group accuracy $p$", ylabel="Magnitude")
        style.panel(axes, letter, title)
    style.finish(
        figure,
        lines,
        [rf"$\beta={beta:g}$" + NAMES.get(beta, "") for beta in betas],
        columns=len(betas),
        footnote=(
            f"Dots: the accuracies of mixed groups of {group} rollouts. The axis ends at {TOP:g}.",
            assumed_in_short(study, NAME),
        ),
    )
    text = (
        "**Figure 1. Advantage over group accuracy.** (a) $A_+(p) = ((1-p)/p)^{\\beta}$ of correct rollouts: the "
        "larger beta, the more a rare success on a hard prompt counts. (b) $|A_-(p)| = (p/(1-p))^{\\beta}$ of wrong "
        f"rollouts: the more a residual failure on an easy prompt counts. Dots: accuracies of mixed groups of {group} "
        f"rollouts. The axis ends at {TOP:g}; the CSV has the values beyond. No training."
    )
    return Artefact(figure, data, caption(study, NAME, text))


def magnitudes(betas: list[float], group: int) -> pd.DataFrame:
    """``channel``, ``beta``, ``p``, ``feasible`` (p is k/group, 0 < k < group), ``magnitude``; p inside (0, 1)."""
    feasible = np.arange(1, group) / group
    p = np.union1d(np.linspace(0.005, 0.995, 199).round(3), feasible)
    parts = [
        pd.DataFrame(
            {"channel": channel, "beta": beta, "p": p, "feasible": np.isin(p, feasible), "magnitude": curve(p, beta)}
        )
        for channel, _, curve in PANELS
        for beta in betas
    ]
    return pd.concat(parts, ignore_index=True)
