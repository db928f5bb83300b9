"""Does entropy that is kept buy coverage? pass@k over k, accuracy over temperature, and end entropy against both.

On the primary backbone: (a) pass@k; (b) the same minus GRPO's; (c) accuracy at the temperatures of the final
evaluation; (d) entropy at the end of training against what further samples add, pass@k_max minus pass@1, per method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from asymgrpo.analysis import coverage, paired, runs
from asymgrpo.analysis.intervals import band_name, seed_band
from asymgrpo.figures import Artefact, assumed_in_short, caption, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asymgrpo.config import Study

NAME = "coverage"
REFERENCE = "grpo"
"""Subtracted in (b); if a scale does not run it, the first method is."""
CHECKPOINT = "last"
CURVES = ("reinforce", "reinforce-entropy", "pos-only-0.5", "neg-only-0.5", "grpo", "grpo-entropy", "asymgrpo")
"""Of the methods, those drawn as curves; all are in (d) and in the CSV."""
OTHER = "#b4b4b4"


class Measured(NamedTuple):
    """What is known of every method and seed."""

    passes: dict[str, pd.DataFrame]
    """Method -> (seeds, k), percent."""
    accuracy: dict[tuple[str, str], pd.Series]
    """(Method, decoding) -> (seeds,), percent."""
    entropy: pd.DataFrame
    """(methods, seeds), nats: mean over the last steps."""


@style.styled
def draw(study: Study) -> Artefact:
    """The figure from ``steps.parquet`` and the final scores of its runs; ValueError if one is missing."""
    final = study.settings["evaluation"]["final"]
    widest = coverage.widest(final, list(study.benchmarks))
    measured = measure(study, widest)
    methods = list(measured.passes)
    curves = [name for name in CURVES if name in methods]
    reference = REFERENCE if REFERENCE in methods else methods[0]
    data = pd.concat(
        [
            pass_rows(measured.passes),
            pass_rows(_against(measured.passes, reference), "pass_difference"),
            temperature_rows(measured, final),
            trade_rows(measured),
        ],
        ignore_index=True,
    )

    figure = style.canvas(height=3.1)
    grid = figure.subplots(2, 2).ravel()
    for axes, quantity in zip(grid[:2], ("pass", "pass_difference"), strict=True):
        _draw_curves(axes, data[data["quantity"] == quantity], curves, "k")
        axes.margins(x=0.03)
        axes.set_xlabel("$k$")
        axes.locator_params(axis="x", integer=True, nbins=8)
    grid[1].axhline(0, color=style.look(reference).colour, linewidth=0.8)
    style.panel(grid[0], "a", "pass@$k$ (%)")
    style.panel(grid[1], "b", f"pass@$k$ minus {study.methods[reference].label}'s")
    _draw_curves(grid[2], data[data["quantity"] == "accuracy"], curves, "temperature")
    grid[2].set(xlabel="Sampling temperature", xlim=(-0.05, 0.05 + max(how["temperature"] for how in final.values())))
    style.panel(grid[2], "c", "Accuracy (%)")
    most = measured.passes[methods[0]].columns[-1]
    _draw_trade(grid[3], data[data["quantity"] == "trade"], curves)
    grid[3].set_xlabel("Entropy at the end (nats)")
    style.panel(grid[3], "d", f"pass@{most} minus pass@1")

    notes = (
        f"{study.backbones[study.primary].label}.",
        _seeds(study),
        "No smoothing.",
        f"(a, b, d): decoding {widest}, {CHECKPOINT} checkpoint, unweighted mean of {len(study.benchmarks)} "
        "benchmarks; (b) paired by seed.",
        f"(d): entropy over the last {paired.SHARE:.0%} of the steps"
        + ("; hollow: the other methods, named in the CSV." if set(methods) > set(curves) else "."),
    )
    entries = style.by_rows(curves, columns=3)
    style.finish_methods(figure, study, entries, columns=3, footnote=(*notes, assumed_in_short(study, NAME)))
    text = (
        "**Coverage.** (a) Unbiased pass@k, the chance that one of k samples is right; (b) its difference to "
        f"{study.methods[reference].label}'s; "
        f"(c) accuracy at the temperatures of the final evaluation ({_decodings(final)}); (d) for every method, "
        "entropy of the policy while training against what further samples add. Methods differ in more than their "
        "entropy, so a correlation over methods is no effect of entropy; and what can be added depends on pass@1, "
        "since a problem that is always solved has nothing to add."
    )
    return Artefact(figure, style.tidy(data), caption(study, NAME, text, *notes, _correlations(measured)))


def measure(study: Study, widest: str) -> Measured:
    """From the files of every method of the figure on the primary backbone.

    Args:
        study: the study.
        widest: the decoding for pass@k.
    """
    backbone = study.primary
    needed = [run for run in study.runs(NAME) if run.backbone == backbone]
    steps = runs.steps(study, needed)
    last = int(steps["step"].max())
    window = steps[steps["step"] > last - max(1, round(paired.SHARE * last))]
    entropy = window.groupby(["method", "seed"], sort=False)["entropy"].mean().unstack("seed")
    passes, accuracy = {}, {}
    for method in study.methods_of(NAME, backbone):
        responses = runs.final_responses(study, backbone, method)
        responses = responses[responses["checkpoint"] == CHECKPOINT]
        for decoding, part in responses.groupby("decoding", sort=False):
            accuracy[method, str(decoding)] = coverage.accuracies(part)
            if decoding == widest:
                passes[method] = coverage.pass_curves(part)
    return Measured(passes, accuracy, entropy.loc[list(passes)])


def pass_rows(passes: dict[str, pd.DataFrame], quantity: str = "pass") -> pd.DataFrame:
    """``quantity``, ``method``, ``k``, ``mean``, ``low``, ``high`` over the seeds, and ``raw_seed_<n>``; percent."""
    rows = []
    for method, curve in passes.items():
        for k in curve.columns:
            rows.append({"quantity": quantity, "method": method, "k": k} | _band(curve[k]))
    return pd.DataFrame(rows)


def temperature_rows(measured: Measured, final: dict[str, dict]) -> pd.DataFrame:
    """The same of the accuracy, with ``decoding`` and ``temperature``, the coolest first."""
    order = sorted(final, key=lambda name: final[name]["temperature"])
    return pd.DataFrame(
        [
            {"quantity": "accuracy", "method": method, "decoding": name, "temperature": final[name]["temperature"]}
            | _band(measured.accuracy[method, name])
            for method in measured.passes
            for name in order
            if (method, name) in measured.accuracy
        ]
    )


def trade_rows(measured: Measured) -> pd.DataFrame:
    """Of every method pass@k_max minus pass@1 (``mean``, ``low``, ``high``), and ``entropy`` with its band."""
    rows = []
    for method, added in added_by_samples(measured.passes).iterrows():
        entropy = _band(measured.entropy.loc[method])
        rows.append(
            {"quantity": "trade", "method": method, "entropy": entropy["mean"]}
            | {"entropy_low": entropy["low"], "entropy_high": entropy["high"]}
            | _band(added)
        )
    return pd.DataFrame(rows)


def added_by_samples(passes: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """(methods, seeds): pass@k_max minus pass@1, percentage points."""
    return pd.DataFrame({method: curve.iloc[:, -1] - curve.iloc[:, 0] for method, curve in passes.items()}).T


def _against(passes: dict[str, pd.DataFrame], reference: str) -> dict[str, pd.DataFrame]:
    """Each other method's curves minus the reference's of the same seed; the reference's own if there is no other."""
    others = {method: curve - passes[reference] for method, curve in passes.items() if method != reference}
    return others or {reference: 0 * passes[reference]}


def _band(values: pd.Series) -> dict[str, float]:
    mean, low, high = seed_band(values.to_numpy(dtype=float))
    raw = {f"raw_seed_{seed}": float(value) for seed, value in values.items()}
    return {"mean": float(mean), "low": float(low), "high": float(high)} | raw


def _draw_curves(axes: Axes, part: pd.DataFrame, methods: list[str], over: str) -> None:
    for order, method in enumerate(methods):
        mine, (colour, line, marker) = part[part["method"] == method], style.look(method)
        axes.plot(
            mine[over], mine["mean"], color=colour, linestyle=line, marker=marker, markeredgewidth=0,
            markersize=4 if marker == "*" else 2.6, zorder=3 + order / 100,
        )  # fmt: skip
        axes.fill_between(mine[over], mine["low"], mine["high"], color=colour, alpha=0.1, linewidth=0, zorder=2)


def _draw_trade(axes: Axes, part: pd.DataFrame, curves: list[str]) -> None:
    for row in part.itertuples():
        known = row.method in curves
        colour, _, marker = style.look(row.method)
        colour, marker, order = (colour, marker, 4) if known else (OTHER, "o", 3)
        face = colour if known else "white"
        axes.hlines(row.mean, row.entropy_low, row.entropy_high, color=colour, linewidth=0.6, zorder=order)
        axes.vlines(row.entropy, row.low, row.high, color=colour, linewidth=0.6, zorder=order)
        size = 5.5 if marker == "*" else 3.8
        axes.plot(
            row.entropy, row.mean, marker=marker, color=colour, markersize=size, markerfacecolor=face,
            markeredgewidth=0 if known else 0.8, zorder=order + 0.5,
        )  # fmt: skip


def _seeds(study: Study) -> str:
    if len(study.seeds) == 1:
        return f"One seed ({study.seeds[0]}): no band."
    listed = ", ".join(map(str, study.seeds))
    return f"Mean of seeds {listed}; bands and bars: {band_name(len(study.seeds))}."


def _decodings(final: dict[str, dict]) -> str:
    return ", ".join(f"{name}: {how['temperature']:g}" for name, how in final.items())


def _correlations(measured: Measured) -> str:
    """One sentence: Spearman's correlation over methods, per seed."""
    most = next(iter(measured.passes.values())).columns[-1]
    gain = added_by_samples(measured.passes)
    ends = {
        f"pass@{most} minus pass@1": gain,
        f"pass@{most}": pd.DataFrame({m: c.iloc[:, -1] for m, c in measured.passes.items()}).T,
        "pass@1": pd.DataFrame({m: c.iloc[:, 0] for m, c in measured.passes.items()}).T,
    }
    said = []
    for words, values in ends.items():
        by_seed = coverage.rank_correlation(measured.entropy, values)
        mean, low, high = (float(x) for x in seed_band(by_seed.to_numpy()))
        interval = f" [{low:.2f}, {high:.2f}]" if np.isfinite([low, high]).all() else ""
        said.append(f"{words} {mean:.2f}{interval}" if np.isfinite(mean) else f"{words} undefined")
    return f"Spearman's correlation of entropy over {len(gain)} methods, mean over seeds: with {', with '.join(said)}."
