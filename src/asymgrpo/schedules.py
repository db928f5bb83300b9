"""Exponents that change while training: beta_pos and beta_neg of a step as a pure function of the steps before it.

The paper keeps both exponents fixed and leaves adaptive ones to future work; these schedules are this project's own.

``linear``, ``cosine``
    from `start` at the first step to `end` at the last, on a straight line or on half a cosine wave.
``adaptive``
    keeps the peaks of learning pressure (Prop. 2: p = 1 - beta_pos for correct rollouts, p = beta_neg for wrong ones)
    at chosen quantiles of the accuracies that mixed groups have had in the steps before. A group's k of G correct
    stands for the interval from (k - 1/2) / G to (k + 1/2) / G, so that a quantile moves continuously.

Nothing is remembered between steps: a schedule is given the histograms of the steps so far, which every run writes
(`group_accuracy_histogram` in steps.parquet). So a run that resumes has the exponents of one that was never stopped,
and those of a finished run follow from its files (:func:`exponents_of_run`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Histograms = Sequence[Sequence[int]]
"""Per step, from the first: the number of groups with k = 0..G correct rollouts."""


class Exponents(NamedTuple):
    """Of both channels."""

    beta_pos: float
    beta_neg: float


@dataclass(frozen=True)
class Interpolated:
    """From `start` to `end` over all steps of a run."""

    start: Exponents
    end: Exponents
    cosine: bool = False


@dataclass(frozen=True)
class Adaptive:
    """beta_pos = 1 - (quantile of p), beta_neg = (another quantile of p), each kept in `range`."""

    start: Exponents
    """Until there has been a mixed group."""
    positive: float
    """Which quantile of p is the peak of the positive channel, in (0, 1)."""
    negative: float
    """... and of the negative one."""
    memory: float
    """How much a step counts relative to the one after it, in [0, 1); 0: only the last step counts."""
    range: tuple[float, float]
    """Smallest and largest exponent."""


Schedule = Interpolated | Adaptive

NEEDS: dict[str, tuple[str, ...]] = {
    "linear": ("start", "end"),
    "cosine": ("start", "end"),
    "adaptive": ("start", "quantiles", "memory", "range"),
}
"""Schedule -> the keys of its description, all needed; without a schedule, exponents are constant."""


def schedule_from_spec(spec: Mapping[str, Any]) -> Schedule:
    """The schedule that a run spec's `estimator.schedule` describes.

    Args:
        spec: `name` and the keys of :data:`NEEDS`: `start` and `end` have beta_pos and beta_neg; `quantiles` has
            positive and negative, in (0, 1); `memory` is in [0, 1); `range` is [smallest, largest] exponent.

    Raises:
        ValueError: naming the key that is missing, unknown, or has a value that cannot be.
    """
    name = spec.get("name")
    if not isinstance(name, str) or name not in NEEDS:
        raise ValueError(f"estimator: schedule: name: expected one of {', '.join(NEEDS)}, found {name!r}")
    _exactly("", {key: value for key, value in spec.items() if key != "name"}, NEEDS[name])
    start = _exponents("start", spec["start"])
    if name != "adaptive":
        return Interpolated(start, _exponents("end", spec["end"]), cosine=name == "cosine")
    _exactly("quantiles: ", spec["quantiles"], ("positive", "negative"))
    quantiles = {key: _between(f"quantiles: {key}", value, 0, 1) for key, value in spec["quantiles"].items()}
    memory = spec["memory"] if spec["memory"] == 0 else _between("memory", spec["memory"], 0, 1)
    low, high = (_exponent("range", beta) for beta in spec["range"])
    if low > high:
        raise ValueError(f"estimator: schedule: range: expected [smallest, largest], found [{low}, {high}]")
    return Adaptive(start, memory=float(memory), range=(low, high), **quantiles)


def betas(schedule: Schedule, step: int, steps: int, history: Histograms) -> Exponents:
    """beta_pos and beta_neg of one training step.

    Args:
        schedule: which.
        step: counted from 1.
        steps: of the whole run.
        history: of the steps before this one, at least `step` - 1; those from `step` on do not count.

    Raises:
        ValueError: there is no such step, or, for an adaptive schedule, `history` is too short.
    """
    if not 1 <= step <= steps:
        raise ValueError(f"step: expected 1 to {steps}, found {step}")
    if isinstance(schedule, Interpolated):
        done = (step - 1) / (steps - 1) if steps > 1 else 0.0
        share = (1 - math.cos(math.pi * done)) / 2 if schedule.cosine else done
        return Exponents(*((1 - share) * a + share * b for a, b in zip(schedule.start, schedule.end, strict=True)))
    if len(history) < step - 1:
        raise ValueError(
            f"history: expected the histograms of {step - 1} steps before step {step}, found {len(history)}"
        )
    mixed = recent_mixed(history[: step - 1], schedule.memory)
    if not mixed.any():
        return schedule.start
    low, high = schedule.range
    peaks = accuracy_quantile(mixed, schedule.positive), accuracy_quantile(mixed, schedule.negative)
    return Exponents(min(max(1 - peaks[0], low), high), min(max(peaks[1], low), high))


def recent_mixed(history: Histograms, memory: float) -> np.ndarray:
    """(G - 1,) float64: mixed groups with k = 1..G-1 correct, a step's counting `memory` times those of the next."""
    if len(history) == 0:
        return np.zeros(1)
    counts = np.asarray([list(row) for row in history], dtype=np.float64)[:, 1:-1]
    age = np.arange(len(counts) - 1, -1, -1)
    return (np.power(memory, age)[:, None] * counts).sum(0)  # 0 ** 0 = 1


def accuracy_quantile(mixed: np.ndarray, quantile: float) -> float:
    """The accuracy p below which this share of the mixed groups lies.

    Args:
        mixed: (G - 1,) weights of the groups with k = 1..G-1 correct, not all 0; a weight is spread evenly over
            the accuracies from (k - 1/2) / G to (k + 1/2) / G.
        quantile: in (0, 1).
    """
    size = len(mixed) + 1
    below = np.cumsum(mixed)
    index = int(np.searchsorted(below, quantile * below[-1]))  # the first bin that reaches the quantile, so not empty
    inside = (quantile * below[-1] - (below[index] - mixed[index])) / mixed[index]
    return float((index + 0.5 + inside) / size)


def exponents_of_run(spec: Mapping[str, Any], steps: int, history: Histograms) -> list[Exponents]:
    """beta_pos and beta_neg of every step of a run, from its spec's `estimator` and its steps' histograms.

    Empty for an estimator without exponents.
    """
    if "schedule" in spec:
        schedule = schedule_from_spec(spec["schedule"])
        return [betas(schedule, step, steps, history) for step in range(1, steps + 1)]
    if "beta_pos" not in spec:
        return []
    return [Exponents(float(spec["beta_pos"]), float(spec["beta_neg"]))] * steps


def _exactly(where: str, values: Mapping[str, Any], needed: Sequence[str]) -> None:
    if set(values) != set(needed):
        missing, unknown = [key for key in needed if key not in values], sorted(set(values) - set(needed))
        raise ValueError(f"estimator: schedule: {where}keys missing: {missing}, keys unknown: {unknown}")


def _exponents(where: str, values: Mapping[str, Any]) -> Exponents:
    _exactly(f"{where}: ", values, Exponents._fields)
    return Exponents(*(_exponent(f"{where}: {key}", values[key]) for key in Exponents._fields))


def _exponent(where: str, beta: Any) -> float:
    if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 <= beta < math.inf:
        raise ValueError(f"estimator: schedule: {where}: expected a finite number >= 0, found {beta!r}")
    return float(beta)


def _between(where: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
        raise ValueError(f"estimator: schedule: {where}: expected a number between {low} and {high}, found {value!r}")
    return float(value)
