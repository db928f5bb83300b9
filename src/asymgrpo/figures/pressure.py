"""Proposition 2 in training: where over the group accuracy the advantages' mass lies, early and late, and its peaks.

Rows are backbones. Columns: how many groups have each accuracy; then the mass on correct and on wrong rollouts, early
and late. A dashed line is Prop. 2's curve: the mass if groups were spread evenly over all accuracies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from asymgrpo.advantages import estimator_from_spec
from asymgrpo.analysis import pressure, runs
from asymgrpo.analysis.intervals import seed_band
from asymgrpo.figures import Artefact, assumed_in_short, caption, seeds_and_band, shown, style
from asymgrpo.theory import negative_peak, positive_peak

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asymgrpo.config import Method, Study

NAME = "pressure"
COLUMNS = (
    ("groups", "late", "Groups (%)"),
    ("positive", "early", "Correct, early"),
    ("positive", "late", "Correct, late"),
    ("negative", "early", "Wrong, early"),
    ("negative", "late", "Wrong, late"),
)


@style.styled
def draw(study: Study) -> Artefact:
    """The figure from ``steps.parquet`` of its runs; ValueError if one is missing."""
    rows = shown(study, NAME)
    needed = [run for run in study.runs(NAME) if run.backbone in rows]
    estimators = {run.method: estimator_from_spec(study.methods[run.method].estimator) for run in needed}
    steps = runs.steps(study, needed)
    data = banded(pressure.masses(steps, estimators))

    figure = style.canvas(height=0.25 + 1.15 * len(rows))
    grid = figure.add_gridspec(len(rows), len(COLUMNS))
    letters = iter("abcdefghijklmnopqrstuvw")
    for row, (backbone, methods) in enumerate(rows.items()):
        part = data[data["backbone"] == backbone]
        first: Axes | None = None
        for column, (quantity, window, title) in enumerate(COLUMNS):
            axes = figure.add_subplot(grid[row, column], sharey=first if column > 1 else None)
            if column == 1:
                first = axes
            if quantity == "groups":
                _draw_early_groups(axes, part)
            drawn = part[(part["quantity"] == quantity) & (part["window"] == window)]
            _draw(axes, drawn, methods)
            if quantity != "groups":
                _mark_peaks(axes, quantity, [study.methods[name] for name in methods])
                axes.tick_params(labelleft=column == 1)
            axes.set(xlim=(-0.03, 1.03), xticks=(0, 0.5, 1))
            axes.set_xticklabels(("0", ".5", "1"))
            top = _top(part if quantity == "groups" else part[part["quantity"] != "groups"], quantity == "groups")
            axes.set_ylim(0, top)
            axes.locator_params(axis="y", nbins=5)
            _name_what_is_above(axes, drawn, top)
            style.panel(axes, next(letters), title)
            if column == 0:
                axes.set_ylabel(study.backbones[backbone].label, fontweight="bold")
            if row == len(rows) - 1:
                axes.set_xlabel("Accuracy $p$")

    (early, late) = pressure.windows(int(steps["step"].max())).values()
    notes = (
        seeds_and_band(study) + " No smoothing.",
        f"Early: {_steps(*early)}; late: {_steps(*late)}.",
        "Dashed: Prop. 2's curve, the mass if groups were spread evenly; dotted: the peak it states.",
    )
    entries = list(dict.fromkeys(name for methods in rows.values() for name in methods))
    style.finish(
        figure,
        style.handles(entries),
        style.labels(study, entries),
        columns=len(entries),
        footnote=(
            *notes,
            "Mass: percent of a unit advantage per rollout. Groups: grey early (all methods), lines late.",
            assumed_in_short(study, NAME),
        ),
    )
    text = (
        "**Proposition 2 in training.** Left: how many groups have which accuracy p, early (grey, mean over methods) "
        "and late (lines). Then the mass of the advantages over p: the share of groups times $p\\,A_+(p)$ on correct "
        "and times $(1-p)\\,|A_-(p)|$ on wrong rollouts, in percent of what one unit of advantage on every rollout "
        "would be; rollouts are counted, not tokens. The stated peak is that of a single group's pressure; where the "
        "mass of a batch lies depends on the difficulty of its problems as well."
    )
    return Artefact(figure, data, caption(study, NAME, text, *notes, _peaks_in_words(study, data, rows)))


def banded(masses: pd.DataFrame) -> pd.DataFrame:
    """Mean and band over the seeds of :func:`asymgrpo.analysis.pressure.masses`, in percent.

    Returns:
        ``quantity`` (``groups``, ``positive``, ``negative``), ``backbone``, ``method``, ``window``, ``p``, ``mean``,
        ``low``, ``high``, ``even`` (Prop. 2's curve at this p; of ``groups`` an even spread), ``raw_seed_<n>``.
    """
    parts = []
    for (backbone, method, window), part in masses.groupby(["backbone", "method", "window"], sort=False):
        for quantity in ("groups", *pressure.CHANNELS):
            wide = 100 * part.pivot(index="p", columns="seed", values=quantity)
            mean, low, high = seed_band(wide.to_numpy())
            one = part.drop_duplicates("p").sort_values("p")
            even = 100 / len(wide) if quantity == "groups" else 100 * one[f"{quantity}_even"].to_numpy()
            frame = {"quantity": quantity, "backbone": backbone, "method": method, "window": window, "p": wide.index}
            raw = {f"raw_seed_{seed}": wide[seed].to_numpy() for seed in wide}
            parts.append(pd.DataFrame(frame | {"mean": mean, "low": low, "high": high, "even": even} | raw))
    return pd.concat(parts, ignore_index=True)


def peaks(data: pd.DataFrame) -> pd.DataFrame:
    """Of :func:`banded`: ``quantity``, ``backbone``, ``method``, ``window`` and the p with the most mass, ``peak``."""
    keys = ["quantity", "backbone", "method", "window"]
    chosen = data[data["quantity"] != "groups"]
    found = {key: pressure.peak(part["p"], part["mean"]) for key, part in chosen.groupby(keys, sort=False)}
    return pd.DataFrame([(*key, top) for key, top in found.items()], columns=[*keys, "peak"])


def _steps(first: int, last: int) -> str:
    return f"step {first}" if first == last else f"steps {first}-{last}"


def _draw(axes: Axes, part: pd.DataFrame, methods: list[str]) -> None:
    for order, method in enumerate(methods):
        mine = part[part["method"] == method]
        colour, _, marker = style.look(method)
        axes.plot(
            mine["p"], mine["mean"], color=colour, marker=marker, markersize=3.2 if marker == "*" else 2.0,
            markeredgewidth=0, linewidth=0.9, zorder=3 + order / 100,
        )  # fmt: skip
        axes.fill_between(mine["p"], mine["low"], mine["high"], color=colour, alpha=0.13, linewidth=0, zorder=2)
        if len(mine) and mine["quantity"].iloc[0] != "groups":
            axes.plot(mine["p"], mine["even"], color=colour, linestyle=style.DASHED, linewidth=0.7, zorder=2.5)


def _draw_early_groups(axes: Axes, part: pd.DataFrame) -> None:
    early = part[(part["quantity"] == "groups") & (part["window"] == "early")].groupby("p")["mean"].mean()
    axes.bar(early.index, early, width=0.7 * (early.index[1] - early.index[0]), color="#d4d4d4", linewidth=0, zorder=1)


def _top(part: pd.DataFrame, everything: bool) -> float:
    """Where the axis ends: of masses above those of the mixed groups, which REINFORCE's endpoints would dwarf."""
    seen = part if everything else part[part["p"].between(0, 1, inclusive="neither")]
    columns = ["mean", "high"] if everything else ["mean", "high", "even"]
    return 1.12 * float(seen[columns].max(axis=None))


def _name_what_is_above(axes: Axes, drawn: pd.DataFrame, top: float) -> None:
    """The values of points above the axis, beside where their line leaves it."""
    for row in drawn[drawn["mean"] > top].itertuples():
        left = row.p < 0.5
        axes.annotate(
            f"{row.mean:.0f}%", (row.p, top), xytext=(12 if left else -12, -2), textcoords="offset points", fontsize=6,
            ha="left" if left else "right", va="top", color=style.look(row.method).colour,
        )  # fmt: skip


def _mark_peaks(axes: Axes, channel: str, methods: list[Method]) -> None:
    for method in methods:
        top = stated_peak(channel, method)
        if top is not None:
            axes.axvline(top, color=style.look(method.name).colour, linestyle=":", linewidth=0.8, zorder=1)


def stated_peak(channel: str, method: Method) -> float | None:
    """Prop. 2's peak of a channel under this method's exponent; None where it has none inside 0 < p < 1."""
    beta, peak = (method.beta_pos, positive_peak) if channel == "positive" else (method.beta_neg, negative_peak)
    return peak(beta) if beta is not None and 0 < beta < 1 else None


def _peaks_in_words(study: Study, data: pd.DataFrame, rows: dict[str, list[str]]) -> str:
    """Stated and measured peaks of every method that has one."""
    found = peaks(data).set_index(["quantity", "backbone", "method", "window"])["peak"]
    said = []
    for backbone, methods in rows.items():
        for name in methods:
            for channel, words in (("positive", "correct"), ("negative", "wrong")):
                top = stated_peak(channel, study.methods[name])
                if top is None:
                    continue
                early, late = (found[channel, backbone, name, window] for window in ("early", "late"))
                said.append(
                    f"{study.backbones[backbone].label}, {study.methods[name].label}, {words}: stated {top:g}, most "
                    f"mass early at {early:g}, late at {late:g}"
                )
    return "; ".join(said) + "." if said else ""
