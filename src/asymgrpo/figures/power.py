"""What could be decided: seeds that every undecided statement needs, and what the paper's own protocol can resolve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asymgrpo.analysis.claims.power import MOST_SEEDS
from asymgrpo.analysis.claims.verdicts import INCONCLUSIVE
from asymgrpo.figures import Artefact, assumed_in_short, caption, style
from asymgrpo.figures.claims import read_verdicts, statements

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asymgrpo.config import Study

ARTEFACT = "claims"
BEYOND = MOST_SEEDS * 1.6
"""Where a statement is drawn that more seeds would not decide, or, from one seed, of which nobody knows."""


@style.styled
def draw(study: Study) -> Artefact:
    """The figure from claims.json; ValueError if it has not been made or is of other seeds."""
    verdicts = read_verdicts(study)
    needed = undecided(statements(verdicts))
    resolved = pd.DataFrame(verdicts["resolution"])

    claims = list(dict.fromkeys(needed["claim"]))
    figure = style.canvas(height=max(1.9, 0.14 * len(claims) + 0.7))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _seeds(left, needed, claims, len(study.seeds))
    _protocol(right, resolved)
    style.panel(left, "a", "Seeds that would decide")
    style.panel(right, "b", "The paper's Table 2 (points)")
    power, alpha, now = study.claims["power"], study.claims["alpha"], len(study.seeds)
    notes = (
        f"(a): a dot for each undecided statement; {power:.0%} chance with effect and spread as measured"
        + ("; ?: unknown from one seed." if now == 1 else f" from {now} seeds; ∞: more than {MOST_SEEDS:,}, or never.")
        + f" (b): bars: smallest difference that two runs show with {power:.0%} chance at p < {alpha:g}, from samples "
        "of a problem that are independent (dark) to samples that always agree (light), at the accuracies of "
        f"{resolved['backbone'].iloc[0]}; without noise of training. Marks: AsymGRPO − GRPO as reported.",
    )
    handles, labels = right.get_legend_handles_labels()
    style.finish(figure, handles, labels, columns=3, footnote=(*notes, assumed_in_short(study, ARTEFACT)))
    text = (
        "**What could be decided.** (a) Seeds that each undecided statement of a claim needs. (b) What the protocol of "
        "the paper's Table 2, one run and n problems with k samples each, can resolve, beside what it reports."
    )
    data = pd.concat([needed.assign(panel="a"), resolved.assign(panel="b")], ignore_index=True)
    return Artefact(figure, data, caption(study, ARTEFACT, text, *notes))


def undecided(frame: pd.DataFrame) -> pd.DataFrame:
    """Statements that were tested and not decided; ``seeds_needed`` is NaN where no number would do."""
    found = frame[(frame["verdict"] == INCONCLUSIVE) & frame["effect"].notna()]
    return found[["claim", "id", "text", "backbone", "effect", "low", "high", "seeds_needed"]].reset_index(drop=True)


def _seeds(axes: Axes, needed: pd.DataFrame, claims: list[str], now: int) -> None:
    axes.set_xscale("log")
    axes.set_xlim(1.6, 2 * MOST_SEEDS)  # two seeds stand beside the axis, not on it
    axes.axvline(now, color="#444444", linewidth=0.8, linestyle=style.DASHED)
    for position, claim in enumerate(claims):
        values = needed.loc[needed["claim"] == claim, "seeds_needed"].fillna(BEYOND).sort_values().to_numpy()
        spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else [0.0]
        axes.plot(values, position + np.asarray(spread), "o", color="#3f8fd0", markersize=2.8, markeredgewidth=0)
    known = now > 1
    axes.set_xticks([3, 10, 30, 100, 300, BEYOND], ["3", "10", "30", "100", "300", "∞" if known else "?"])
    axes.xaxis.set_minor_locator(style.mpl.ticker.NullLocator())
    axes.set_yticks(range(len(claims)), [f"Claim {claim}" for claim in claims])
    axes.set_ylim(max(len(claims), 1) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Seeds (dashed: now)" if known else "Seeds")


def _protocol(axes: Axes, resolved: pd.DataFrame) -> None:
    first = resolved["backbone"].iloc[0]
    part = resolved[resolved["backbone"] == first].reset_index(drop=True)
    where = np.arange(len(part))
    axes.barh(where, part["agreeing"], height=0.66, color="#cfe0f0", label="samples agree")
    axes.barh(where, part["independent"], height=0.66, color="#6f9fcc", label="samples independent")
    markers = zip(resolved["backbone"].unique(), ("o", "^", "s", "D"), strict=False)
    for index, (backbone, marker) in enumerate(markers):
        rows = resolved[resolved["backbone"] == backbone]
        colour = ("#b2182b", "#222222", "#e69f00", "#117733")[index]
        axes.plot(
            rows["gap"], where, marker, color=colour, markersize=3.4, linestyle="none", label=f"{backbone}, reported"
        )
    axes.set_yticks(where, part["benchmark"])
    axes.set_ylim(len(part) - 0.4, -0.6)
    axes.axvline(0.0, color="#444444", linewidth=0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Percentage points")
