"""What artefacts need: runs, final evaluations, start policies; and what that costs, by the scale's `cost:` block.

`cost.measured` has the wall-clock seconds of each kind of job on `threads` cores. `cost.model` reckons with the work:
with g GPUs a run, R rollouts a step, P prompt and L response tokens each, at most M response tokens, N parameters,

    sampling    R L / (g generation_rate) + (M - L) / single_stream_rate      the longest response is waited for alone
    forward     forward_passes 2 N R (P + L) / (g peak_flops forward_utilisation)
    update      epochs update_flops N R (P + L) / (g peak_flops update_utilisation)
    evaluation  as sampling, one response to every problem; at the start, every `evaluation.every` steps and at the end
    checkpoint  N checkpoint_bytes / disk_rate, every `checkpoint_every` steps
    overhead    step_overhead_seconds a step, start_seconds a run

and for each policy of the final evaluation engine_start_seconds and as sampling, on sampling_gpus. Wall-clock time:
start policies first; then the runs, longest first, as many at once as the nodes hold; then the final evaluations,
spread over the nodes. Queues, failures and repetitions are not in it.
"""

from __future__ import annotations

import heapq
import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from asymgrpo.config import BASE, Run, Study
from asymgrpo.config.settings import values
from asymgrpo.tables import TABLES

HUB_BYTES = 2
"""Bytes per parameter of a fetched model: the hub has them in bfloat16."""

Start = tuple[str, int]


# -- what is needed ---------------------------------------------------------------------------------------------------


def evaluated(study: Study, *artefacts: str) -> list[Run]:
    """The final evaluations that these artefacts read, each once; method ``base`` is the untrained policy of a start.

    Figures show runs only; tables also the policies that these began from. What judges others reads what they read.
    """
    named = [part for name in artefacts for part in (study.artefact(name).judges or (name,))]
    reading = [name for name in named if study.artefact(name).decodings]
    found = study.runs(*reading) if reading else []
    tables = [name for name in reading if name in TABLES]
    return found + [
        Run(backbone, BASE, start)
        for backbone, start in study.starts()
        if any(study.methods_of(name, backbone) for name in tables)
    ]


@dataclass(frozen=True)
class Needs:
    """What some artefacts need; what is there already included."""

    runs: list[Run]
    evaluations: list[Run]
    starts: list[Start]

    @classmethod
    def of(cls, study: Study, *artefacts: str) -> Needs:
        """Everything once, however many of the artefacts need it."""
        runs, evaluations = study.runs(*artefacts) if artefacts else [], evaluated(study, *artefacts)
        starts = {(run.backbone, study.start_seed(run.backbone, run.seed)) for run in runs}
        starts |= {(run.backbone, run.seed) for run in evaluations if run.method == BASE}
        return cls(runs, evaluations, [start for start in study.starts() if start in starts])

    def missing(self, study: Study) -> Needs:
        """What is not there yet."""
        return Needs(
            [run for run in self.runs if not is_done(study, run)],
            [run for run in self.evaluations if not _is_evaluated(study, run)],
            [start for start in self.starts if not (study.start_policy(*start) / "config.json").exists()],
        )


def bytes_left(study: Study, at_once: int) -> tuple[float, float]:
    """Bytes still to be written for the selected artefacts: to stay, and at most while so many runs go on at once."""
    left, cost = Needs.of(study, *study.artefacts).missing(study), costs(study)
    working = sorted((cost.working_bytes(run.backbone) for run in left.runs), reverse=True)
    return sum(job.size for stage in _stages(cost, left) for job in stage), sum(working[:at_once])


def is_done(study: Study, run: Run) -> bool:
    """Whether a run has been trained to its end: its record is written last."""
    return (study.runs_dir(run) / "run.yaml").exists()


def _is_evaluated(study: Study, run: Run) -> bool:
    return all((study.evaluation_dir(run) / f"{name}.scores.parquet").exists() for name in study.benchmarks)


# -- what it costs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """Wall-clock seconds on so many GPUs (or cores), and bytes that stay on disk."""

    seconds: float
    width: int
    size: float

    @property
    def hours(self) -> float:
        """GPU-hours or core-hours."""
        return self.seconds * self.width / 3600


class Measured:
    """Seconds as they were measured (`cost.measured`)."""

    unit = "core-hours"

    def __init__(self, study: Study) -> None:
        self._study = study
        self._cost = values(study.cost)["measured"]
        self._threads = study.settings["threads"]
        self.node_width: int = self._cost["runs_at_once"] * self._threads

    def train(self, run: Run) -> Job:
        """A run without its final evaluation."""
        steps = self._study.spec(run)["steps"]
        seconds = self._cost["start_seconds"] + steps * self._cost["step_seconds"]
        return Job(seconds, self._threads, self._cost["run_bytes"])

    def evaluate(self, run: Run) -> Job:
        """A final evaluation; its files are in `run_bytes`."""
        return Job(self._cost["sampling_seconds"], self._threads, 0.0)

    def start(self, start: Start) -> Job:
        """A warm start."""
        return Job(self._cost["warm_start_seconds"], self._threads, self._cost["run_bytes"])

    def working_bytes(self, backbone: str) -> float:
        """What a run needs on disk while it goes on; of a small policy nothing to speak of."""
        return 0.0


class Model:
    """Seconds from operations and tokens (`cost.model`); the formulas are at the top of this file."""

    unit = "GPU-hours"

    def __init__(self, study: Study) -> None:
        self._study = study
        self._cost: dict[str, float] = values(study.cost)["model"]
        self._of = {name: values(backbone.cost) for name, backbone in study.backbones.items()}
        self.node_width: int = study.settings["verl"]["trainer.n_gpus_per_node"]

    def step(self, run: Run) -> dict[str, float]:
        """Seconds of one step by phase; evaluations and checkpoints are spread over the steps."""
        spec, cost, own = self._study.spec(run), self._cost, self._of[run.backbone]
        rollout = spec["rollout"]
        rollouts = rollout["prompts_per_step"] * rollout["group_size"]
        work = own["parameters"] * rollouts * (cost["prompt_tokens"] + own["response_tokens"])
        peak = self._study.gpus * cost["peak_flops"]
        problems = sum(map(_problems, self._study.benchmarks.values()))
        evaluations = 1 + math.ceil(spec["steps"] / spec["evaluation"]["every"])
        saved = own["parameters"] * cost["checkpoint_bytes"] / cost["disk_rate"]
        return {
            "sampling": self._generate(run, rollouts, self._study.gpus),
            "forward": cost["forward_passes"] * 2 * work / (peak * cost["forward_utilisation"]),
            "update": rollout["epochs"] * cost["update_flops"] * work / (peak * cost["update_utilisation"]),
            "evaluation": self._generate(run, problems, self._study.gpus) * evaluations / spec["steps"],
            "checkpoint": saved / spec["checkpoint_every"],
            "overhead": cost["step_overhead_seconds"],
        }

    def train(self, run: Run) -> Job:
        """A run without its final evaluation; it leaves the last and the best policy."""
        seconds = self._cost["start_seconds"] + self._study.spec(run)["steps"] * sum(self.step(run).values())
        return Job(seconds, self._study.gpus, 2 * self._cost["policy_bytes"] * self._of[run.backbone]["parameters"])

    def evaluate(self, run: Run) -> Job:
        """All decodings of all the policies of a run, or of an untrained one."""
        seconds = size = 0.0
        gpus = int(self._cost["sampling_gpus"])
        policies: dict[str, int] = {}
        for decoding in self._study.settings["evaluation"]["final"].values():
            for policy in ["last"] if run.method == BASE else decoding["checkpoints"]:
                policies[policy] = policies.get(policy, 0) + self._samples(decoding["samples"])
        for samples in policies.values():
            seconds += self._cost["engine_start_seconds"] + self._generate(run, samples, gpus)
            size += samples * self._of[run.backbone]["response_tokens"] * self._cost["token_bytes"]
        return Job(seconds, gpus, size)

    def start(self, start: Start) -> Job:
        """A fetched model costs its files; how long the network takes is not known."""
        return Job(0.0, 0, HUB_BYTES * self._of[start[0]]["parameters"])

    def working_bytes(self, backbone: str) -> float:
        """Checkpoints to resume from, and the best policy so far; removed when the run ends."""
        return self._cost["working_bytes"] * self._of[backbone]["parameters"]

    def _samples(self, samples: Any) -> int:
        of = samples if isinstance(samples, dict) else dict.fromkeys(self._study.benchmarks, samples)
        return sum(_problems(benchmark) * of[name] for name, benchmark in self._study.benchmarks.items())

    def _generate(self, run: Run, responses: int, gpus: int) -> float:
        own = self._of[run.backbone]
        longest = self._longest[run.backbone]
        tail = max(0.0, longest - own["response_tokens"]) / own["single_stream_rate"]
        return responses * own["response_tokens"] / (gpus * own["generation_rate"]) + tail

    @cached_property
    def _longest(self) -> dict[str, int]:
        study = self._study
        method = next(iter(study.methods))
        runs = [Run(backbone, method, study.seeds[0]) for backbone in study.backbones]
        return {run.backbone: study.spec(run)["rollout"]["max_response_tokens"] for run in runs}


Costs = Measured | Model


def costs(study: Study) -> Costs:
    """What the scale's `cost:` block says."""
    return Model(study) if any(path[0] == "model" for path in study.cost) else Measured(study)


# -- the plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What one target needs, whatever other targets need."""

    target: str
    runs: int
    done: int
    hours: float
    """GPU-hours (or core-hours) of everything, done or not."""
    hours_left: float
    """Of what is not done."""
    wall_seconds: float
    """Of what is not done, on the nodes that were asked for."""
    kept_bytes: float
    """On disk at the end."""
    working_bytes: float
    """On disk beside that while runs go on, at most."""


@dataclass(frozen=True)
class Plan:
    """Rows by target, the last for all of them together, in which shared runs count once."""

    scale: str
    nodes: int
    unit: str
    rows: list[Row]
    phases: dict[str, dict[str, float]]
    """Backbone -> phase -> seconds of one step; empty for costs that were measured as a whole."""


def plan(study: Study, artefacts: Sequence[str] = (), nodes: int = 1) -> Plan:
    """What the artefacts (default: those selected) need and cost on so many nodes.

    Raises:
        ValueError: nodes is below 1.
        ConfigError: there is no such artefact.
    """
    if nodes < 1:
        raise ValueError(f"nodes: expected at least 1, found {nodes}")
    names, cost = list(dict.fromkeys(artefacts or study.artefacts)), costs(study)
    rows = [_row(study, cost, name, [name], nodes) for name in names]
    if len(names) > 1:
        rows.append(_row(study, cost, "all", names, nodes))
    phases: dict[str, dict[str, float]] = {}
    if isinstance(cost, Model):
        for run in Needs.of(study, *names).runs:
            phases.setdefault(run.backbone, cost.step(run))
    return Plan(study.scale, nodes, cost.unit, rows, phases)


def _row(study: Study, cost: Costs, target: str, artefacts: Sequence[str], nodes: int) -> Row:
    needed = Needs.of(study, *artefacts)
    left = needed.missing(study)
    everything = [job for stage in _stages(cost, needed) for job in stage]
    starts, runs, evaluations = _stages(cost, left)
    working = sorted((cost.working_bytes(run.backbone) for run in left.runs), reverse=True)
    return Row(
        target,
        runs=len(needed.runs),
        done=len(needed.runs) - len(left.runs),
        hours=sum(job.hours for job in everything),
        hours_left=sum(job.hours for job in (*starts, *runs, *evaluations)),
        wall_seconds=_makespan(starts, nodes, cost.node_width)
        + _makespan(runs, nodes, cost.node_width)
        + sum(job.seconds * job.width for job in evaluations) / (nodes * cost.node_width),
        kept_bytes=sum(job.size for job in everything),
        working_bytes=sum(working[: _lanes(runs, nodes, cost.node_width)]),
    )


def _stages(cost: Costs, needs: Needs) -> tuple[list[Job], list[Job], list[Job]]:
    return (
        [cost.start(start) for start in needs.starts],
        [cost.train(run) for run in needs.runs],
        [cost.evaluate(run) for run in needs.evaluations],
    )


def _lanes(jobs: Sequence[Job], nodes: int, width: int) -> int:
    """How many of these jobs go on at once; a job wider than a node takes several."""
    widest = max((job.width for job in jobs), default=width) or width
    return max(1, nodes * (width // widest) if widest <= width else nodes // math.ceil(widest / width))


def _makespan(jobs: Sequence[Job], nodes: int, width: int) -> float:
    """Seconds until the last of the jobs has ended, started longest first."""
    lanes = [0.0] * _lanes(jobs, nodes, width)
    for seconds in sorted((job.seconds for job in jobs), reverse=True):
        heapq.heapreplace(lanes, lanes[0] + seconds)
    return max(lanes)


# -- as text ----------------------------------------------------------------------------------------------------------


def as_json(made: Plan) -> dict[str, Any]:
    """Plain values; hours, seconds and bytes."""
    return asdict(made)


def as_text(study: Study, made: Plan) -> str:
    """Aligned columns, and where the numbers are from."""
    head = ["target", "runs", "done", made.unit, "to do", "wall-clock", "disk"]
    body = [
        [
            row.target,
            str(row.runs),
            str(row.done),
            _number(row.hours),
            _number(row.hours_left),
            duration(row.wall_seconds),
            size(row.kept_bytes + row.working_bytes),
        ]
        for row in made.rows
    ]
    nodes = "1 node" if made.nodes == 1 else f"{made.nodes} nodes"
    title = f"Scale {made.scale}: {study.backend}, {_hardware(study)}; wall-clock time of what is to do, on {nodes}."
    parts = [_paragraph(title), table([head, *body])]
    if made.phases:
        names = list(next(iter(made.phases.values())))
        lines = [
            [name, *(_number(phases[phase]) for phase in names), _number(sum(phases.values()))]
            for name, phases in made.phases.items()
        ]
        parts.append(table([["seconds a step", *names, "sum"], *lines]))
    return "\n\n".join([*parts, "\n".join(map(_paragraph, _notes(made)))])


def _notes(made: Plan) -> list[str]:
    """Where the numbers are from, and how to read them."""
    modelled = made.unit == Model.unit
    kind = "A model, not a measurement" if modelled else "From times measured on one machine; others differ"
    keys = "`cost` and `backbones.*.cost`" if modelled else "`cost`"
    notes = [
        f"{kind}. Its constants, each with its reason: {keys} in config/scales/{made.scale}.yaml; its formulas: "
        "src/asymgrpo/plan.py."
    ]
    if len(made.rows) > 1:
        notes.append("What several targets need counts in each of them, and once in `all`.")
    last = made.rows[-1]
    if last.working_bytes:
        notes.append(
            f"Disk of {last.target}: {size(last.kept_bytes)} stay, {size(last.working_bytes)} more while runs go on."
        )
    return notes


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 100)


def _hardware(study: Study) -> str:
    if study.gpus:
        return f"{study.gpus} GPUs a run"
    return f"{study.settings['threads']} core{'s' * (study.settings['threads'] > 1)} a run"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two blanks between; the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if position else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def duration(seconds: float) -> str:
    """0, `40 s`, `22 min`, `9.5 h`, `12.3 days`."""
    if not seconds:
        return "0"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def size(count: float) -> str:
    """0, `107 MB`, `1.9 TB`: powers of ten."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB")):
        if count >= 10**power:
            scaled = count / 10**power
            return f"{scaled:.0f} {unit}" if scaled >= 10 else f"{scaled:.1f} {unit}"
    return f"{count / 1e6:.1f} MB" if count else "0"


def _number(value: float) -> str:
    return "0" if not value else f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _problems(benchmark: Any) -> int:
    settings = benchmark.settings
    return settings.get("max_problems", settings["problems"])
