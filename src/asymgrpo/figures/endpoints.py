"""How much of Pos-Only's and Neg-Only's effect do the groups explain that have all or no rollout right?

A channel with beta > 0 does two things at once: it reweights the mixed groups, which is what the paper is about, and it
silences an endpoint, since 0^0 = 1 but 0^beta = 0: all-solved groups (positive channel) or none-solved ones (negative).
REINFORCE with that endpoint alone set to zero is run too. Rows: the positive channel, the negative channel, and the
share, that ablation's difference to REINFORCE over the channel's. Columns: what is measured at the end of training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from asymgrpo.analysis import coverage, paired, runs
from asymgrpo.analysis.intervals import LEVEL, band_name, seed_band
from asymgrpo.analysis.shares import fieller
from asymgrpo.figures import Artefact, assumed_in_short, caption, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asymgrpo.config import Study

NAME = "endpoints"
REFERENCE = "reinforce"
CHECKPOINT = "last"
QUANTITIES = (
    ("entropy", "Entropy (nats)"),
    ("all_solved", "All solved (%)"),
    ("none_solved", "None solved (%)"),
    ("accuracy", "Accuracy (%)"),
)


class Channel(NamedTuple):
    """A channel, its ablation, and the methods whose effect the ablation may explain."""

    label: str
    ablation: str
    prefix: str


CHANNELS = (
    Channel("Pos-Only", "reinforce-all-solved-zero", "pos-only-"),
    Channel("Neg-Only", "reinforce-none-solved-zero", "neg-only-"),
)


@style.styled
def draw(study: Study) -> Artefact:
    """The figure from ``steps.parquet`` and the final scores of its runs; ValueError if one is missing."""
    values = at_end(study)
    effects = differences(values, study)
    explained = shares(values, study)

    figure = style.canvas(height=3.1)
    grid = figure.subplots(3, len(QUANTITIES))
    methods = [name for name in study.methods_of(NAME, study.primary) if name != REFERENCE]
    for column, (quantity, title) in enumerate(QUANTITIES):
        for row, channel in enumerate(CHANNELS):
            axes = grid[row, column]
            names = [channel.ablation, *_of(channel, methods)]
            _draw_effects(axes, effects[effects["quantity"] == quantity], names)
            axes.set_xticklabels(["end", *(_exponent(study, name) for name in names[1:])])
            style.panel(axes, "abcdefghijkl"[row * len(QUANTITIES) + column], title if row == 0 else "")
            if column == 0:
                axes.set_ylabel(f"{channel.label}\nminus REINFORCE")
        axes = grid[2, column]
        order = [name for channel in CHANNELS for name in _of(channel, methods)]
        _draw_shares(axes, explained[explained["quantity"] == quantity], order)
        axes.set_xticklabels([_exponent(study, name) for name in order])
        axes.set_xlabel(r"$\beta_+$ or $\beta_-$")
        style.panel(axes, "ijkl"[column], "")
        if column == 0:
            axes.set_ylabel("Share (%)")

    notes = (
        f"{study.backbones[study.primary].label}.",
        _seeds(study),
        _window(study),
        "end: REINFORCE with only the endpoint's advantage set to 0.",
        f"Shares: ratio of mean differences, {LEVEL:.0%} interval of Fieller, paired by seed; a cross where none is "
        "defined: the whole effect's interval covers 0, fewer than three seeds, or a run that the scale does not have.",
    )
    entries = style.by_rows(methods, columns=3)
    style.finish_methods(figure, study, entries, columns=3, footnote=(*notes, assumed_in_short(study, NAME)))
    text = (
        "**What the endpoint groups explain.** Differences to REINFORCE at the end of training (small markers: seeds), "
        "of each Pos-Only method beside REINFORCE without the advantage of all-solved groups (upper row; end), and of "
        "each Neg-Only method beside REINFORCE without that of none-solved groups (middle row; end). At an exponent "
        "above 0 these groups have no advantage, so the ablation is that part of the method which does not reweight "
        "mixed groups. Lower row: the ablation's difference as a share of the method's; 100% would mean that the "
        "endpoint groups explain all of it, and a share outside 0 to 100% is possible."
    )
    data = pd.concat([effects, explained.assign(statistic="share")], ignore_index=True)
    return Artefact(figure, data, caption(study, NAME, text, *notes, _in_words(study, explained)))


def at_end(study: Study) -> pd.DataFrame:
    """What every run of the figure has come to.

    Returns:
        Index (``method``, ``seed``): ``entropy`` (nats), ``all_solved``, ``none_solved`` (percent of groups), means
        over the last :data:`asymgrpo.analysis.paired.SHARE` of the steps; ``accuracy`` (percent) at the end.
    """
    backbone = study.primary
    methods = study.methods_of(NAME, backbone)
    needed = [run for run in study.runs(NAME) if run.backbone == backbone]
    steps = runs.steps(study, needed)
    last = int(steps["step"].max())
    window = steps[steps["step"] > last - max(1, round(paired.SHARE * last))]
    values = window.groupby(["method", "seed"], sort=False)[["entropy", "all_solved", "none_solved"]].mean()
    values[["all_solved", "none_solved"]] *= 100.0
    (decoding,) = study.artefact(NAME).decodings
    scores = {
        method: coverage.accuracies(runs.final_counts(study, backbone, method, decoding, CHECKPOINT))
        for method in methods
    }
    values["accuracy"] = pd.concat(scores, names=["method", "seed"])
    return values


def differences(values: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Every method minus REINFORCE: ``quantity``, ``method``, ``statistic``, ``mean``, ``low``, ``high``, every seed.

    Args:
        values: from :func:`at_end`.
        study: the study, for seeds and order.
    """
    rows = []
    for quantity, _ in QUANTITIES:
        for method in study.methods_of(NAME, study.primary):
            if method == REFERENCE:
                continue
            apart = (values.loc[method, quantity] - values.loc[REFERENCE, quantity]).reindex(list(study.seeds))
            mean, low, high = (float(x) for x in seed_band(apart.to_numpy()))
            rows.append(
                {"quantity": quantity, "method": method, "statistic": "difference"}
                | {"mean": mean, "low": low, "high": high}
                | {f"raw_seed_{seed}": value for seed, value in apart.items()}
            )
    return pd.DataFrame(rows)


def shares(values: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The ablation's difference as a share of each method's, in percent.

    Returns:
        ``quantity``, ``method``, ``ablation``, ``mean``, ``low``, ``high`` (NaN where undefined), ``raw`` (the ratio of
        means whatever the interval), ``seeds``.
    """
    methods = study.methods_of(NAME, study.primary)
    rows = []
    for quantity, _ in QUANTITIES:
        by_seed = values[quantity].unstack("seed").sub(values.loc[REFERENCE, quantity], axis="columns")
        nothing = pd.Series(np.nan, index=by_seed.columns)
        for channel in CHANNELS:
            part = by_seed.loc[channel.ablation] if channel.ablation in by_seed.index else nothing
            for method in _of(channel, methods):
                share = fieller(part.to_numpy(), by_seed.loc[method].to_numpy())
                rows.append(
                    {
                        "quantity": quantity,
                        "method": method,
                        "ablation": channel.ablation,
                        "mean": 100 * share.point,
                        "low": 100 * share.low,
                        "high": 100 * share.high,
                        "raw": 100 * share.raw,
                        "seeds": share.seeds,
                    }
                )
    return pd.DataFrame(rows)


def _of(channel: Channel, methods: list[str]) -> list[str]:
    return [name for name in methods if name.startswith(channel.prefix)]


def _exponent(study: Study, method: str) -> str:
    """Of the one channel that is modulated, as a label."""
    return f"{study.methods[method].beta_pos or study.methods[method].beta_neg:g}".removeprefix("0")


def _draw_effects(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    axes.axhline(0, color="#222222", linewidth=0.6)
    by_method = part.set_index("method")
    seeds = [name for name in part if str(name).startswith("raw_seed_")]
    for position, name in enumerate(names):
        if name not in by_method.index:
            continue
        row, (colour, _, marker) = by_method.loc[name], style.look(name)
        axes.plot(np.full(len(seeds), position + 0.22), row[seeds].astype(float), ".", color=colour, markersize=2)
        axes.vlines(position, row["low"], row["high"], color=colour, linewidth=1.2)
        axes.plot(position, row["mean"], marker=marker, color=colour, markersize=4, markeredgewidth=0)
    if not set(names) & set(by_method.index):
        axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", va="center", fontsize=6)
        axes.set_yticks([])
    axes.set(xlim=(-0.5, len(names) - 0.3), xticks=range(len(names)))
    axes.grid(visible=False, axis="x")
    if len(axes.get_yticks()):
        axes.locator_params(axis="y", nbins=4)


def _draw_shares(axes: Axes, part: pd.DataFrame, order: list[str]) -> None:
    for level in (0, 100):
        axes.axhline(level, color="#222222", linewidth=0.6, linestyle="-" if level == 0 else style.DASHED)
    by_method = part.set_index("method")
    for position, name in enumerate(order):
        row, (colour, _, marker) = by_method.loc[name], style.look(name)
        if np.isfinite(row["mean"]):
            axes.vlines(position, row["low"], row["high"], color=colour, linewidth=1.2)
            axes.plot(position, row["mean"], marker=marker, color=colour, markersize=4, markeredgewidth=0)
        else:
            at_the_bottom = axes.get_xaxis_transform()
            axes.plot(position, 0.07, marker="x", color=colour, markersize=3.5, transform=at_the_bottom)
    low, high = part["low"].min(), part["high"].max()
    axes.set(xlim=(-0.5, len(order) - 0.5), xticks=range(len(order)))
    axes.set_ylim(max(-150.0, np.nanmin([low, -35.0]) - 5), min(250.0, np.nanmax([high, 120.0]) + 5))
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="y", nbins=4)


def _seeds(study: Study) -> str:
    if len(study.seeds) == 1:
        return f"One seed ({study.seeds[0]}): no interval."
    listed = ", ".join(map(str, study.seeds))
    return f"Differences paired by seed ({listed}); bars: {band_name(len(study.seeds))}."


def _window(study: Study) -> str:
    (decoding,) = study.artefact(NAME).decodings
    return (
        f"Entropy and fractions of groups: mean over the last {paired.SHARE:.0%} of the steps. Accuracy: final "
        f"evaluation at {decoding}, {CHECKPOINT} checkpoint, unweighted mean of {len(study.benchmarks)} benchmarks."
    )


def _in_words(study: Study, explained: pd.DataFrame) -> str:
    """Every share that is defined, or that there is none."""
    known = explained.dropna(subset=["mean"])
    if known.empty:
        return "No share is defined with these runs; the CSV has the ratios of means."
    titles = {quantity: title.split(" (")[0].lower() for quantity, title in QUANTITIES}
    said = [
        f"{titles[row.quantity]}, {study.methods[row.method].label}: {row.mean:.0f}% [{row.low:.0f}, {row.high:.0f}]"
        for row in known.itertuples()
    ]
    return f"Shares explained: {'; '.join(said)}."
