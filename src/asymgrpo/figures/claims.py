"""The effects behind the verdicts: a panel per quantity, a line per contrast, with intervals, coloured by verdict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from asymgrpo.analysis.claims.quantities import QUANTITIES
from asymgrpo.analysis.claims.verdicts import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from asymgrpo.analysis.runs import remedy
from asymgrpo.figures import Artefact, assumed_in_short, caption, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asymgrpo.config import Study

NAME = "claims"
COLOURS = {REPRODUCED: "#1b7837", CONTRADICTED: "#b2182b", INCONCLUSIVE: "#8a8a8a"}
MARKERS = ("o", "^", "s", "D", "v")
ARROWS = {">": "↑", "<": "↓", "=": "≈"}
ROW = 0.14
"""Inches."""


@style.styled
def draw(study: Study) -> Artefact:
    """The figure from claims.json; ValueError if it has not been made or is of other seeds."""
    data = statements(read_verdicts(study))
    tested = data[data["effect"].notna()]
    quantities = [name for name in QUANTITIES if name in set(tested["quantity"])]
    rows = {name: _rows(tested[tested["quantity"] == name]) for name in quantities}

    figure = style.canvas(height=ROW * sum(len(found) + 1.9 for found in rows.values()) + 0.1)
    ratios = [len(found) + 0.6 for found in rows.values()]
    letters = iter("abcdefghijklmnop")
    panels = figure.subplots(max(1, len(rows)), 1, height_ratios=ratios or [1], squeeze=False)[:, 0]
    for axes, name in zip(panels, quantities, strict=False):
        _panel(axes, study, tested[tested["quantity"] == name], rows[name])
        unit = QUANTITIES[name].unit
        style.panel(axes, next(letters), QUANTITIES[name].title + (f" ({unit})" if unit else ""))
    if not quantities:
        panels[0].set_axis_off()

    handles, labels = _legend(study, tested)
    seeds = len(study.seeds)
    lines = "Lines: 95% intervals; they may run beyond the panel." if seeds > 1 else "One seed: no interval."
    notes = (
        f"{seeds} seed{'s' * (seeds > 1)}. {lines} ↑ ↓ ≈: what the claim says. Differences of equal seeds; grey area: "
        "what counts as close.",
    )
    style.finish(figure, handles, labels, columns=4, footnote=(*notes, assumed_in_short(study, NAME)))
    text = (
        "**Verdicts.** The effect behind every statement that a claim was turned into (its number is in front), with "
        "its interval over seeds, of final accuracies over seeds and problems. The rules, written before the runs, "
        "are in config/claims.yaml. The paper's values are those of its models, from one run."
    )
    return Artefact(figure, data, caption(study, NAME, text, *notes))


def read_verdicts(study: Study) -> dict[str, Any]:
    """claims.json of the study; ValueError if there is none, or if it is of other seeds."""
    path = study.table_stem("claims").with_suffix(".json")
    if not path.is_file():
        raise ValueError(f"{path}: no such file; {remedy(study, path)}")
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["seeds"] != list(study.seeds):
        raise ValueError(
            f"{path}: expected the seeds {list(study.seeds)}, found {found['seeds']}; {remedy(study, path)}"
        )
    return found


def statements(verdicts: dict[str, Any]) -> pd.DataFrame:
    """One row per statement of claims.json, with ``claim``; numbers that do not exist are NaN."""
    frame = pd.DataFrame(
        [{"claim": claim["claim"]} | part for claim in verdicts["claims"] for part in claim["statements"]]
    )
    numbers = ["effect", "low", "high", "p", "p_holm", "paper", "seeds_needed"]
    frame[numbers] = frame[numbers].astype(float)
    frame["seeds"] = [" ".join(map(str, seeds)) for seeds in frame["seeds"]]
    return frame


def _rows(part: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Claim, method, the other one and direction, each once; backbones share a line."""
    keys = part[["claim", "of", "minus", "direction"]].itertuples(index=False, name=None)
    return list(dict.fromkeys(keys))


def _panel(axes: Axes, study: Study, part: pd.DataFrame, rows: list[tuple[str, str, str, str]]) -> None:
    backbones = list(study.backbones)
    for row in part.itertuples():
        position = rows.index((row.claim, row.of, row.minus, row.direction))
        shift = 0.0 if len(backbones) == 1 else np.linspace(-0.2, 0.2, len(backbones))[backbones.index(row.backbone)]
        y, colour = position + shift, COLOURS[row.verdict]
        if np.isfinite(row.low):
            axes.plot([row.low, row.high], [y, y], color=colour, linewidth=1.1, solid_capstyle="butt")
        filled = colour if row.verdict != INCONCLUSIVE else "white"
        axes.plot(
            row.effect, y, MARKERS[backbones.index(row.backbone) % len(MARKERS)], color=colour, markersize=3.2,
            markerfacecolor=filled, markeredgewidth=0.8, zorder=4,
        )  # fmt: skip
        if np.isfinite(row.paper):
            axes.plot(row.paper, y, "|", color="black", markersize=5, markeredgewidth=1.2, zorder=5)
        if row.direction == "=":
            inside = [-row.threshold, row.threshold]
            axes.fill_betweenx([position - 0.45, position + 0.45], *inside, color="#e6e6e6", linewidth=0)
    axes.axvline(0.0, color="#444444", linewidth=0.6, zorder=1)
    labels = [
        f"{claim}  {_label(study, of)}{f' − {_label(study, minus)}' if minus else ''} {ARROWS[direction]}"
        for claim, of, minus, direction in rows
    ]
    axes.set_yticks(range(len(rows)), labels, fontsize=6)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    limit = _limit(part)
    axes.set_xlim(-limit, limit)


def _limit(part: pd.DataFrame) -> float:
    """Every effect, paper's value and margin, and the intervals, but not those of two seeds at their full width."""
    points = np.abs(part[["effect", "paper"]].to_numpy()).ravel()
    margins = part.loc[part["direction"] == "=", "threshold"].to_numpy()
    reach = np.nanmax(np.concatenate([points, margins, [0.0]]))
    ends = np.nanmax(np.append(np.abs(part[["low", "high"]].to_numpy()).ravel(), 0.0))
    return 1.08 * (min(ends, 3.0 * reach) if ends > reach else reach) or 1.0


def _label(study: Study, method: str) -> str:
    return study.every_method[method].label


def _legend(study: Study, tested: pd.DataFrame) -> tuple[list[Line2D], list[str]]:
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=3.2, linewidth=1.1, markeredgewidth=0.8,
               markerfacecolor="white" if verdict == INCONCLUSIVE else colour)
        for verdict, colour in COLOURS.items()
    ]  # fmt: skip
    labels = list(COLOURS)
    if tested["paper"].notna().any():
        handles.append(Line2D([], [], color="black", marker="|", markersize=5, markeredgewidth=1.2, linestyle="none"))
        labels.append("the paper's value")
    if len(study.backbones) > 1:
        for index, backbone in enumerate(study.backbones.values()):
            marker = MARKERS[index % len(MARKERS)]
            handles.append(Line2D([], [], color="#444444", marker=marker, markersize=3.2, linestyle="none"))
            labels.append(backbone.label)
    return handles, labels
