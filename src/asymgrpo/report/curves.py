"""Training curves for the page: means over seeds with bands, as in the figures, of every method that is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from asymgrpo.analysis import curves
from asymgrpo.figures import CURVE_DECODING

if TYPE_CHECKING:
    from asymgrpo.config import Study

QUANTITIES = {
    "accuracy": ("Test accuracy", "%"),
    "entropy": ("Entropy of the policy", "nats"),
    "reward": ("Reward in training", "mean"),
    "alpha": ("Alignment α of reward and confidence", "nats per token"),
    "all_solved": ("Groups with every rollout correct", "fraction"),
    "none_solved": ("Groups with no rollout correct", "fraction"),
    "logprob_gain_correct": ("Log-prob gain of correct rollouts", "nats per rollout"),
    "gradient_norm": ("Gradient norm", "before clipping"),
}
"""Column -> title and unit of its panel, in the order of the page."""

MOST_POINTS = 240
"""Of a curve; longer ones are thinned to every n-th step, the last one always kept."""


def smoothing_of(study: Study) -> float:
    """The factor of the moving average of the figures of curves; 0 if there is none among the artefacts."""
    for name in ("fig4", "fig2", "fig3"):
        factor = study.artefact(name).settings.get("ema_factor")
        if factor is not None:
            return float(factor)
    return 0.0


def panels(study: Study, steps: pd.DataFrame, evaluations: pd.DataFrame) -> list[dict[str, Any]]:
    """One panel per quantity.

    Args:
        study: of one scale.
        steps, evaluations: of the runs that are shown (:mod:`asymgrpo.analysis.runs`).

    Returns:
        Panels ``{"quantity", "title", "unit", "backbones": {name: {"steps": [...], "methods": {name: {"smooth": lines,
        "raw": lines}}}}}``; ``lines`` is ``[mean, low, high]``, a list over the steps each, None where there is no
        value, to four significant digits.
    """
    factor, found = smoothing_of(study), []
    accuracy = curves.mean_accuracy(evaluations, CURVE_DECODING) if len(evaluations) else pd.DataFrame()
    for quantity, (title, unit) in QUANTITIES.items():
        frame = accuracy if quantity == "accuracy" else steps
        if frame.empty or frame[quantity].isna().all():
            continue
        drawn = {
            "smooth": curves.curves(frame, quantity, factor),
            "raw": curves.curves(frame, quantity, 0.0),
        }
        backbones = {
            backbone: _backbone({kind: data[data["backbone"] == backbone] for kind, data in drawn.items()})
            for backbone in dict.fromkeys(frame["backbone"])
        }
        found.append({"quantity": quantity, "title": title, "unit": unit, "backbones": backbones})
    return found


def _backbone(drawn: dict[str, pd.DataFrame]) -> dict[str, Any]:
    steps = _thinned(sorted(set(drawn["raw"]["step"])))
    methods: dict[str, dict[str, Any]] = {}
    for kind, data in drawn.items():
        for method, part in data.groupby("method", sort=False):
            values = part.set_index("step").reindex(steps)
            lines = [[_number(value) for value in values[column]] for column in ("mean", "low", "high")]
            methods.setdefault(str(method), {})[kind] = lines
    return {"steps": steps, "methods": methods}


def _thinned(steps: Sequence[int]) -> list[int]:
    every = -(-len(steps) // MOST_POINTS)
    return [int(step) for position, step in enumerate(reversed(steps)) if position % every == 0][::-1]


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(f"{value:.4g}")
