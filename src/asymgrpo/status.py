"""What is there of a study, read from files alone: every run, start policy and final evaluation with its state.

=============  =================================================================================================
``done``       its record is there, with the settings that config/ has now
``running``    a process works on it (:func:`asymgrpo.progress.alive`)
``resumable``  nobody works on it, but a checkpoint of these settings is there: the next start goes on from it
``stale``      its record has other settings than config/ now, or is older than what it was made from, or that is stale
``missing``    none of these
=============  =================================================================================================

Whatever is stale or missing will be made by the next call of Snakemake. A run's settings are compared as plain data, so
neither a comment nor a note in config/ makes it stale. Inputs are compared by their times first; where one is newer
than the record and all of them are small, their content decides. What waits in a cluster's queue leaves no file: it is
missing.

Nothing here imports torch, pandas or pyarrow, and of a record only the part that is needed is parsed: it must be quick
for a thousand runs.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from asymgrpo import plan, progress
from asymgrpo.config import BASE, Run, Study
from asymgrpo.terminal import table, words
from asymgrpo.training.spec import fingerprint, run_spec, warm_start_spec, what_counts
from asymgrpo.training.verl.task import saved_step

STATES = ("done", "running", "resumable", "stale", "missing")
OUTPUTS = ("steps.parquet", "groups.parquet", "timings.parquet", "evaluations.parquet", "policy/last", "policy/best")
"""Of a run, beside its record."""
SMALL = 50e6
"""Bytes; the content of larger inputs is not read."""
LISTED = 20
"""Lines about what is not simply done or missing, unless every run is listed."""
ALONE = 3
"""More than so many of the same kind that are told with the same words share a line."""

_SEED = re.compile(r"^ *(?:warm_start_)?seed: (\d+)\n", re.MULTILINE)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class State:
    """One run, start policy or final evaluation."""

    kind: str
    """run, start or evaluation."""
    name: str
    """backbone/method/seed-n; of a start policy backbone/seed-n."""
    state: str
    """One of :data:`STATES`."""
    place: str
    """Its directory."""
    step: int | None = None
    """If it is running: the last step; if it is resumable: that of the checkpoint."""
    steps: int | None = None
    left: float | None = None
    """Seconds, as the process has told, less those since then."""
    note: str = ""
    """Who works on it; what has changed; where a log is."""

    @property
    def about(self) -> str:
        """Everything but the name and the state, as words."""
        parts = []
        if self.state == "running" and self.step is not None:
            parts.append(f"{self.step}/{self.steps}")
        if self.state == "resumable" and self.step:
            parts.append(f"from step {self.step} of {self.steps}")
        if self.left is not None:
            parts.append(f"about {plan.duration(self.left)} left")
        return ", ".join([*parts, *([self.note] if self.note else [])])


@dataclass(frozen=True)
class Status:
    """A study's state."""

    scale: str
    runs: list[State]
    starts: list[State]
    evaluations: list[State]
    others: list[State]
    """Runs that are there although nothing that was asked for needs them: other seeds, ablations, other artefacts."""


def status(study: Study, artefacts: Sequence[str] = (), now: float | None = None) -> Status:
    """The state of everything that the artefacts need (default: those selected).

    Args:
        study: of one scale.
        artefacts: names.
        now: seconds of the epoch; default: the clock's.

    Raises:
        ConfigError: there is no such artefact.
    """
    needed = plan.Needs.of(study, *(artefacts or study.artefacts))
    look = _Look(study, time.time() if now is None else now)
    wanted = set(needed.runs)
    others = map(look.run, (run for run in _there(study) if run not in wanted))
    return Status(
        study.scale,
        [look.run(run) for run in needed.runs],
        [look.start(*start) for start in needed.starts],
        [look.evaluation(run) for run in needed.evaluations],
        [] if artefacts else [state for state in others if state.state != "missing"],
    )


def state_of(study: Study, run: Run) -> State:
    """The state of one run."""
    return _Look(study, time.time()).run(run)


class _Look:
    """Looks at the files of one study at one time; what many runs have in common is read once."""

    def __init__(self, study: Study, now: float) -> None:
        self.study, self.now = study, now
        self._shared = cache(self._settings)
        self._inputs = cache(self._inputs_of)
        self._other_problems = cache(self._problems_changed)
        # runs have start policies in common, and evaluations are of runs
        self.run, self.start = cache(self._run), cache(self._start)

    def _run(self, run: Run) -> State:
        study, work, out = self.study, self.study.work_dir(run), self.study.runs_dir(run)
        name = "/".join([run.backbone, run.method, f"seed-{run.seed}"])

        def state(word: str, **known: Any) -> State:
            return State("run", name, word, str(out), **known)

        if run.backbone not in study.backbones or run.method not in study.every_method:
            return state("stale", note="config/ does not know it any more")
        spec = self._shared(run.backbone, run.method) | {
            "seed": run.seed,
            "warm_start_seed": study.start_seed(run.backbone, run.seed),
        }
        sign, told = progress.sign(work, self.now), progress.told(work)
        if sign and sign.lives:
            return state("running", steps=spec["steps"], **self._told(sign, told))
        record = out / "run.yaml"
        if (made := _modified(record)) is not None:
            reason = self._outdated(run, spec, record, made)
            return state("stale", note=reason) if reason else state("done")
        saved = saved_step(work) if study.backend == "verl" else _saved(work, told)
        of_these = sign is None or sign.settings == progress.digest(asdict(what_counts(run_spec(spec))))
        if saved and of_these:
            return state("resumable", step=saved, steps=spec["steps"])
        log = study.log_file(run)
        return state("missing", note=f"was started, see {log}" if log.exists() else "")

    def _start(self, backbone: str, seed: int) -> State:
        study = self.study
        if study.backbones[backbone].fetched:
            place = study.model_dir(backbone)
            there = place.with_name(f"{place.name}.yaml").exists() and place.is_dir()
            note = "" if there else "to be fetched"
            return State("start", backbone, "done" if there else "missing", str(place), note=note)
        place, work = study.warm_start_dir(backbone, seed), study.warm_start_work_dir(backbone, seed)
        name = f"{backbone}/seed-{seed}"
        spec = asdict(warm_start_spec(study.warm_start(backbone, seed)))
        sign, told = progress.sign(work, self.now), progress.told(work)
        if sign and sign.lives:
            return State("start", name, "running", str(place), steps=spec["steps"], **self._told(sign, told))
        if (place / "run.yaml").exists():
            changed = _changes(_block(place / "run.yaml", "spec"), _plain(spec))
            if not changed and not (place / "policy" / "config.json").exists():
                changed = "lacks policy/"
            return State("start", name, "stale" if changed else "done", str(place), note=changed)
        saved = _saved(work, told)
        if saved and (sign is None or sign.settings == progress.digest(spec)):
            return State("start", name, "resumable", str(place), step=saved, steps=spec["steps"])
        return State("start", name, "missing", str(place))

    def evaluation(self, run: Run) -> State:
        study, place, work = self.study, self.study.evaluation_dir(run), self.study.evaluation_work_dir(run)
        name = "/".join([run.backbone, run.method, f"seed-{run.seed}"])
        sign = progress.sign(work, self.now)
        if sign and sign.lives:
            return State("evaluation", name, "running", str(place), note=_who(sign))
        sampled, record = _modified(place / "sampling.yaml"), study.runs_dir(run) / "run.yaml"
        if sampled is not None:
            changed = self._resampled(run, place / "sampling.yaml")
            trained = None if run.method == BASE else _modified(record)
            if not changed and trained is not None and trained > sampled:
                changed = "the run has been trained again since"
            if not changed and self._policy(run).state == "stale":
                changed = "its policy is stale"
            changed = changed or self._other_problems()
            if changed:
                return State("evaluation", name, "stale", str(place), note=changed)
            scored = [_modified(place / f"{benchmark}.scores.parquet") for benchmark in study.benchmarks]
            if None in scored:
                return State("evaluation", name, "missing", str(place), note="sampled, not scored")
            return State("evaluation", name, "done", str(place))
        if parts := len(list(work.glob("*/*.parquet"))):
            return State("evaluation", name, "resumable", str(place), note=f"{parts} parts are sampled")
        return State("evaluation", name, "missing", str(place))

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _settings(self, backbone: str, method: str) -> dict[str, Any]:
        """A spec is the same for every seed, but for the two that :meth:`run` puts in."""
        return self.study.spec(Run(backbone, method, 1))

    def _told(self, sign: progress.Sign, told: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a running process has said about itself; what an earlier one has left is not taken for it."""
        if told is None or told["at"] < sign.since:
            return {"step": 0 if told is None else told.get("saved", 0), "note": f"starting, {_who(sign)}"}
        since = self.now - told["at"]
        quiet = f", last step {plan.duration(since)} ago" if since > 60 else ""
        return {"step": told["step"], "left": max(0.0, told.get("left", 0.0) - since), "note": _who(sign) + quiet}

    def _outdated(self, run: Run, spec: Mapping[str, Any], record: Path, made: float) -> str:
        """Why a run would be made again; empty if it would not."""
        text = _text(record)
        if changed := _changes(_block_of(text, "spec"), spec):
            return changed
        lacking = [name for name in OUTPUTS if not (record.parent / name).exists()]
        if lacking:
            return f"lacks {', '.join(lacking)}"
        if self.start(run.backbone, spec["warm_start_seed"]).state == "stale":
            return "its start policy is stale"
        if changed := self._other_problems():
            return changed
        files, newest, size = self._inputs(run.backbone, spec["warm_start_seed"])
        if not files or newest <= made:
            return ""
        if size < SMALL and _block_of(text, "fingerprint") == fingerprint(what_counts(run_spec(spec)), *files):
            return ""
        return "its start policy, problems or benchmarks are newer"

    def _inputs_of(self, backbone: str, start: int) -> tuple[list[Path], float, float]:
        """What a run reads, the newest time, and the size; no files if one is not there."""
        study = self.study
        files = [*sorted(study.start_policy(backbone, start).glob("*.safetensors")), study.train_file()]
        files += map(study.benchmark_file, study.benchmarks)
        try:
            found = [path.stat() for path in files]
        except OSError:
            return [], 0.0, 0.0
        return files, max(stat.st_mtime for stat in found), sum(stat.st_size for stat in found)

    def _policy(self, run: Run) -> State:
        """What a final evaluation is of: a run, or a start policy, whose seed is then meant."""
        return self.start(run.backbone, run.seed) if run.method == BASE else self.run(run)

    def _problems_changed(self) -> str:
        """What has changed since problems were made, those trained on or a benchmark's; empty if nothing has."""
        study = self.study
        of = {study.train_file(): study.train_problems}
        of |= {study.benchmark_file(name): benchmark.settings for name, benchmark in study.benchmarks.items()}
        for file, settings in of.items():
            record = file.with_suffix(".yaml")
            if record.exists() and (changed := _changes(_block(record, "settings"), _plain(settings))):
                return f"{file.stem}: {changed}"
        return ""

    def _resampled(self, run: Run, record: Path) -> str:
        """What of how responses are sampled has changed since."""
        study, text = self.study, _text(record)
        known = run.backbone in study.backbones and run.method in [BASE, *study.every_method]
        if not known:
            return "config/ does not know it any more"
        rollout = self._shared(run.backbone, next(iter(study.methods)))["rollout"]
        final = study.settings["evaluation"]["final"]
        ours = {
            "sampler": study.settings["sampler"],
            "engine": study.settings.get("sampler_settings", {}),
            "max_tokens": rollout["max_response_tokens"],
            "template": study.backbones[run.backbone].start.get("template", {}),
            "prompt_limit": rollout["max_prompt_tokens"],
            "decodings": {
                name: {"temperature": how["temperature"], "samples": _each(how["samples"], study.benchmarks)}
                for name, how in final.items()
                if run.method != BASE or "last" in how["checkpoints"]
            },
        }
        return _changes({key: _block_of(text, key) for key in ours}, ours)


def _there(study: Study) -> Iterator[Run]:
    """Every run of which there is something."""
    names = {
        place.parts[-3:]
        for directory in (study.runs_dir, study.work_dir)
        for place in directory(Run("*", "*", 0)).parents[2].glob("*/*/seed-*")
        if place.name.removeprefix("seed-").isdecimal()
    }
    for backbone, method, seed in sorted(names):
        if backbone not in ("evaluation", "warm-start", "agreement"):  # what else lies in work/
            yield Run(backbone, method, int(seed.removeprefix("seed-")))


def _who(sign: progress.Sign) -> str:
    return f"on {sign.host}" + (f", job {sign.job}" if sign.job else "")


def _saved(work: Path, told: Mapping[str, Any] | None) -> int:
    """The step of the torch backend's checkpoint, as the process that wrote it has told."""
    return told.get("saved", 0) if told and (work / "checkpoint.pt").exists() else 0


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _each(samples: Any, benchmarks: Iterable[str]) -> dict[str, int]:
    return {name: samples[name] if isinstance(samples, dict) else samples for name in benchmarks}


# -- records, read in part --------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _block(path: Path, key: str) -> Any:
    return _block_of(_text(path), key)


def _block_of(text: str, key: str) -> Any:
    """One top-level entry of a record as plain data, without parsing the rest; None if it is not there or not YAML.

    Parsed once for all seeds: what differs between them is cut out first and put in again.
    """
    found = re.search(rf"^{key}:.*\n(?:[ -].*\n)*", text, re.MULTILINE)
    if found is None:
        return None
    block = found[0]
    if key != "spec":
        return _parsed(block)
    value = _parsed(_SEED.sub("", block))
    seeds = {match[0].split(":")[0].strip(): int(match[1]) for match in _SEED.finditer(block)}
    return value | seeds if isinstance(value, dict) else None


@lru_cache(maxsize=4096)
def _parsed(block: str) -> Any:
    try:
        return next(iter(yaml.load(block, Loader=_Loader).values()))
    except (yaml.YAMLError, AttributeError, StopIteration):
        return None


def _plain(value: Any) -> Any:
    """As it is after a way through YAML: tuples are lists; the keys of a warm start's shares stay numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _changes(recorded: Any, now: Mapping[str, Any], told: int = 3) -> str:
    """The settings that differ, in words: `steps was 80, is 60`; empty if none does."""
    if not isinstance(recorded, Mapping):
        return "its record cannot be read"
    if recorded == now:
        return ""
    before, after = flat(recorded), flat(now)
    keys = [key for key in {**before, **after} if key not in before or key not in after or before[key] != after[key]]
    words = [
        f"{key} is new" if key not in before
        else f"{key} is gone" if key not in after
        else f"{key} {_change(before[key], after[key])}"
        for key in keys
    ]  # fmt: skip
    return "; ".join(words[:told]) + (f"; and {len(words) - told} more" if len(words) > told else "")


def _change(before: Any, after: Any) -> str:
    """Of long lists only what one has and the other has not: cut off, both would read the same."""
    if isinstance(before, list) and isinstance(after, list):
        gone, new = ([item for item in one if item not in other] for one, other in ((before, after), (after, before)))
        if gone or new:
            return " and ".join(
                f"has {said} {_short(items)}" for said, items in (("no more", gone), ("now", new)) if items
            )
    return f"was {_short(before)}, is {_short(after)}"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys; an empty mapping stays one."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _short(value: Any) -> str:
    text = words(value)
    return text if len(text) <= 30 else text[:29] + "…"


# -- as text ----------------------------------------------------------------------------------------------------------


def as_json(found: Status) -> dict[str, Any]:
    """Plain values; seconds."""
    return asdict(found)


def as_text(found: Status, width: int | None = None) -> str:
    """Counts by backbone and method, and what is neither done nor missing."""
    parts = [f"Scale {found.scale}: {len(found.runs)} runs; {_counts(found.runs)}."]
    if found.runs:
        parts.append(table([["backbone", "method", "runs", *STATES], *_groups(found.runs)], width, left=2))
    shown = [state for state in _all(found) if state.state in ("running", "resumable", "stale") or state.note]
    if shown:
        rows = _together(shown)
        more = f"\n... and {len(rows) - LISTED} more lines: --runs has all" if len(rows) > LISTED else ""
        parts.append(table(rows[:LISTED], width, left=3, wrap=[2]) + more)
    rest = [
        f"{title}: {len(states)}; {_counts(states)}."
        for title, states in (
            ("Start policies", found.starts),
            ("Final evaluations", found.evaluations),
            ("Runs that nothing selected needs", found.others),
        )
        if states
    ]
    return "\n\n".join([*parts, *(["\n".join(rest)] if rest else [])])


def as_list(found: Status, width: int | None = None) -> str:
    """A line for everything."""
    rows = [_row(state) for state in _all(found)]
    summary = f"{len(found.runs)} runs at scale {found.scale}; {_counts(found.runs)}"
    return "\n".join([*([table(rows, width, left=3, wrap=[2])] if rows else []), summary])


def _together(states: Sequence[State]) -> list[list[str]]:
    """A line for each; one for many that are told with the same words, such as all runs after a change of a scale."""
    same: dict[tuple[str, str, str], list[State]] = {}
    for state in states:
        same.setdefault((state.kind, state.state, state.about), []).append(state)
    rows: list[list[str]] = []
    for (kind, word, about), of in same.items():
        rows += [[word, f"{len(of)} {kind}s", about]] if len(of) > ALONE else map(_row, of)
    return rows


def _row(state: State) -> list[str]:
    return [state.state, _named(state), state.about]


def _named(state: State) -> str:
    return state.name if state.kind == "run" else f"{state.kind} {state.name}"


def _all(found: Status) -> list[State]:
    return [*found.starts, *found.runs, *found.evaluations, *found.others]


def _counts(states: Sequence[State]) -> str:
    counted = Counter(state.state for state in states)
    return ", ".join(f"{counted[word]} {word}" for word in STATES if counted[word]) or "none"


def _groups(states: Sequence[State]) -> list[list[str]]:
    groups: dict[tuple[str, str], Counter[str]] = {}
    for state in states:
        backbone, method, _ = state.name.split("/")
        groups.setdefault((backbone, method), Counter())[state.state] += 1
    rows = [[*key, str(counted.total()), *_numbers(counted)] for key, counted in groups.items()]
    whole = Counter(state.state for state in states)
    return [*rows, ["all", "", str(whole.total()), *_numbers(whole)]]


def _numbers(counted: Counter[str]) -> list[str]:
    return [str(counted[word]) if counted[word] else "." for word in STATES]
