"""What a verl run writes as it goes: one JSON line per event, on disk before the checkpoint that contains the step.

verl's own log will not do: it is truncated when training resumes, and a step's line is written after its checkpoint and
its validation, so a kill in between would lose the step. Here nothing is lost or doubled, after any number of restarts:

- ``start`` says after which step an attempt goes on; what earlier attempts did beyond it is void and will be done
again;
- ``step`` has a row of steps.parquet, its timings and its groups; ``evaluation`` the rows of one evaluation;
- a line that a kill cut short is the last of its attempt, and ignored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asymgrpo import records


class Journal:
    """Appends events; each is on disk when the call returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, after_step: int) -> None:
        """An attempt begins with the checkpoint of `after_step` (0: from the start policy)."""
        self._append({"event": "start", "after_step": after_step})

    def step(
        self, step: int, row: Mapping[str, Any], timings: Mapping[str, float], groups: list[dict[str, Any]]
    ) -> None:
        """A step was trained; `row`, `timings` and `groups` have the columns of their files, without `step`."""
        self._append({"event": "step", "step": step, "row": dict(row), "timings": dict(timings), "groups": groups})

    def evaluation(self, step: int, rows: list[dict[str, Any]]) -> None:
        """The policy after `step` was evaluated; `rows` have the columns of evaluations.parquet, without `step`."""
        self._append({"event": "evaluation", "step": step, "rows": rows})

    def _append(self, event: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            # a line that a kill cut short must not swallow this one
            file.write(("\n" if _cut_short(self.path) else "") + json.dumps(event) + "\n")
            file.flush()
            os.fsync(file.fileno())


@dataclass
class History:
    """What the journal says when all attempts are put together."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    """The step after which each attempt began."""

    @property
    def evaluated(self) -> set[int]:
        """Steps whose policy has been evaluated."""
        return {row["step"] for row in self.evaluations}

    def until(self, step: int) -> History:
        """Without what came after `step`."""
        kept = {
            name: [row for row in getattr(self, name) if row["step"] <= step]
            for name in ("steps", "groups", "timings", "evaluations")
        }
        return History(**kept, attempts=self.attempts)


def read(path: Path) -> History:
    """Put the attempts together; an empty history if there is no journal.

    Raises:
        ValueError: naming the file, if a step is missing (so the journal does not belong to these checkpoints).
    """
    history = History()
    if not path.exists():
        return history
    steps: dict[int, dict[str, Any]] = {}
    evaluations: dict[int, list[dict[str, Any]]] = {}
    for line in path.read_text().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # cut short by a kill
        if event["event"] == "start":
            after = event["after_step"]
            history.attempts.append(after)
            steps = {step: row for step, row in steps.items() if step <= after}
            evaluations = {step: rows for step, rows in evaluations.items() if step <= after}
        elif event["event"] == "step":
            steps[event["step"]] = event
        else:
            evaluations[event["step"]] = event["rows"]
    if sorted(steps) != list(range(1, len(steps) + 1)):
        missing = min(set(range(1, max(steps) + 1)) - set(steps))
        raise ValueError(f"{path}: step {missing} is missing; remove {path.parent} to train from the start")
    for step in sorted(steps):
        event = steps[step]
        history.steps.append({"step": step, **_complete(event["row"], records.STEPS.names)})
        history.timings.append({"step": step, **_complete(event["timings"], records.TIMINGS.names)})
        history.groups += [{"step": step, **_floats(group)} for group in event["groups"]]
    for step in sorted(evaluations):
        history.evaluations += [{"step": step, **row} for row in evaluations[step]]
    return history


def best_step(history: History, benchmark: str) -> int:
    """The earliest step with the highest accuracy on a benchmark after the start; 0 if there is none."""
    chosen = [row for row in history.evaluations if row["benchmark"] == benchmark and row["step"] > 0]
    return max(chosen, key=lambda row: (row["accuracy"], -row["step"]))["step"] if chosen else 0


def _complete(row: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """What a backend does not measure (CPU seconds of a GPU run) is NaN."""
    return {name: _number(row.get(name)) for name in names if name != "step"}


def _floats(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _number(value) for key, value in group.items()}


def _number(value: Any) -> Any:
    return float("nan") if value is None else value


def _cut_short(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
