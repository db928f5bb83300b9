"""Proposition 2: the learning pressure of each channel over the group accuracy, with its peaks. No runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from asymgrpo.figures import Artefact, assumed_in_short, caption, style
from asymgrpo.theory import negative_peak, negative_pressure, positive_peak, positive_pressure

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "prop2"
PANELS = (
    ("positive", r"Correct rollouts, $p\,A_+(p)$", positive_pressure, positive_peak),
    ("negative", r"Wrong rollouts, $(1-p)\,|A_-(p)|$", negative_pressure, negative_peak),
)


@style.styled
def draw(study: Study) -> Artefact:
    """Learning pressure (Eqs. 9, 10) and its peaks (Eq. 11), from the formulas alone."""
    betas = [float(beta) for beta in study.artefact(NAME).settings["betas"]]
    data = pressures(betas)

    figure = style.canvas(height=1.75)
    lines = []
    for axes, letter, (channel, title, _, _) in zip(figure.subplots(1, 2, sharey=True), "ab", PANELS, strict=True):
        for index, beta in enumerate(betas):
            part = data[(data["channel"] == channel) & (data["beta"] == beta)]
            (line,) = axes.plot(part["p"], part["pressure"], **style.beta_look(index + 1))
            for top in part[part["stated_peak"]].itertuples():
                axes.vlines(top.p, 0, top.pressure, color=line.get_color(), linewidth=0.6, linestyle=":")
                axes.plot(top.p, top.pressure, "o", color=line.get_color(), markersize=3.5)
                axes.annotate(
                    f"$p={top.p:g}$", (top.p, 0), xytext=(2, 3), textcoords="offset points", fontsize=6.5
                )  # fmt: skip
            if channel == "positive":
                lines.append(line)
        axes.set(xlim=(0, 1), xlabel="Group accuracy $p$")
        axes.set_ylim(0, data["pressure"].max() * 1.05)
        style.panel(axes, letter, title)
    figure.axes[0].set_ylabel("Learning pressure")
    footnote = r"Dots: the peaks that Prop. 2 states, $p=1-\beta_+$ and $p=\beta_-$."
    style.finish(
        figure,
        lines,
        [rf"$\beta={beta:g}$" for beta in betas],
        columns=len(betas),
        footnote=(footnote, assumed_in_short(study, NAME)),
    )
    text = (
        "**Proposition 2. Learning pressure over group accuracy.** Share of a channel's rollouts times the magnitude "
        "of their advantage (Eqs. 9 and 10). Dots: the stated peaks (Eq. 11), $p = 1-\\beta_+$ for the positive "
        "channel, $p = \\beta_-$ for the negative one; "
        f"{check(betas)} No training."
    )
    return Artefact(figure, data, caption(study, NAME, text))


def pressures(betas: list[float]) -> pd.DataFrame:
    """``channel``, ``beta``, ``p``, ``pressure``, ``stated_peak`` (p is Prop. 2's peak, where 0 < beta < 1)."""
    parts = []
    for channel, _, curve, peak in PANELS:
        for beta in betas:
            stated = [peak(beta)] if 0 < beta < 1 else []
            p = np.union1d(np.linspace(0.0, 1.0, 201).round(3), stated)
            parts.append(
                pd.DataFrame(
                    {
                        "channel": channel,
                        "beta": beta,
                        "p": p,
                        "pressure": curve(p, beta),
                        "stated_peak": np.isin(p, stated),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def check(betas: list[float]) -> str:
    """A sentence: how far each pressure's maximum, searched numerically, is from the stated peak."""
    distances = [
        abs(minimize_scalar(lambda p: -curve(p, beta), bounds=(0, 1), method="bounded").x - peak(beta))  # noqa: B023
        for _, _, curve, peak in PANELS
        for beta in betas
        if 0 < beta < 1
    ]
    if not distances:
        return "no exponent shown has an interior peak."
    return f"maxima searched numerically are within {max(distances):.0e} of them."
