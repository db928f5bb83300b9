"""Around a call of Snakemake on Slurm: what jobs ask for, what Slurm would refuse, told beforehand, and what failed.

``snakemake --profile slurm`` asks Slurm about every kind of job that it is going to submit, with the very options of
the executor plugin. A mistake in a profile so ends at once, with Slurm's words and the line to change, and not hours
later, job by job.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SECONDS = 60
"""Patience with a command of Slurm."""

BLAMED_BY_WORDS = {
    "partition": ("slurm_partition",),
    "account": ("slurm_account",),
    "qos": ("slurm-qos", "qos"),
    "reservation": ("slurm-reservation",),
    "feature": ("constraint",),
    "time limit": ("runtime",),
    "memory": ("mem_mb_per_cpu", "mem_mb"),
    "gpu model": ("gpu_model",),
}
"""What Slurm's words are about -> resources, or options of the executor plugin; the first words that occur count."""

BLAMED_BY_TRIAL = (
    *("gpu_model", "gpu", "nodes", "gres"),
    *("mem_mb_per_cpu", "mem_mb", "cpus_per_task", "threads", "runtime"),
)
"""Where the words say only that there is no such node: the first without which Slurm would take the job."""

NAMES = {"slurm_partition": ("gpu_partition", "slurm_partition"), "gpu_model": ("gpu_type", "gpu_model")}
"""A resource of a job with GPUs -> what a profile may call it (:func:`asked_for`)."""

NO_DASH = "here a type of GPU has letters, digits, _ and . only; how to do without: profiles/slurm, at gpu_type"
"""Of the executor plugin, which says no more than that the format is invalid."""

OF_ALL = ("qos", "reservation")
"""Options of the executor plugin, `slurm-qos` in a profile, that are for all jobs and that Slurm can refuse."""

INTERNAL = ("_cores", "_nodes", "tmpdir", "mem", "mem_mib", "disk", "disk_mb", "disk_mib")
"""Resources of Snakemake that Slurm does not hear of."""


def asked_for(gpus: int, nodes: int, site: Callable[[str], Any]) -> dict[str, Any]:
    """Resources of a job with so many GPUs, on so many nodes together.

    On a cluster those that have some go to the site's `gpu_partition` and ask for its `gpu_type`; the same rule on a
    scale that runs on CPUs is a job like any other.

    Args:
        site: what a profile has under default-resources, by its name; None: nothing.
    """
    partition = (gpus and site("gpu_partition")) or site("slurm_partition")
    there = {"slurm_partition": partition} if partition else {}
    kind = site("gpu_type") if gpus else None
    if gpus and nodes > 1:
        # so many on each node: of a number for all nodes a job's first step, which is on one, could not have its part
        return {"nodes": nodes, "gres": ":".join(filter(None, ["gpu", kind, str(gpus // nodes)])), **there}
    # several could come from several nodes, unless one is asked for
    together = {"nodes": 1} if gpus > 1 else {}
    return {"gpu": gpus, **together, **there, **({"gpu_model": kind} if kind else {})}


class Resources(dict[str, Any]):
    """Values by name, and as attributes: what the executor plugin reads of a job."""

    def __getattr__(self, name: str) -> Any:
        """The value, or AttributeError."""
        if name in self:
            return self[name]
        raise AttributeError(name)


@dataclass(frozen=True)
class Request:
    """What a job asks Slurm for; all jobs of a rule that ask for the same are one."""

    rule: str
    threads: int
    resources: Resources = field(hash=False)

    def is_group(self) -> bool:
        """As jobs have it; there are no groups here."""
        return False

    @property
    def cores(self) -> tuple[str, int]:
        """Where their number is said, and the number."""
        own = self.resources.get("cpus_per_task")
        return ("cpus_per_task", own) if own else ("threads", self.threads)

    @property
    def has_gpus(self) -> bool:
        """In one of the two ways of :func:`asked_for`."""
        return bool(self.resources.get("gpu") or self.resources.get("gres"))

    def without(self, name: str) -> Request | None:
        """The same without one resource; None: it has none."""
        if name == "threads":
            return Request(self.rule, 1, self.resources) if self.threads > 1 else None
        left = {key: value for key, value in self.resources.items() if key != name or not value}
        if name == "gpu_model" and left.get("gres"):  # of several nodes the type is in there
            left["gres"] = re.sub(r"^gpu:[^:]+:", "gpu:", left["gres"])
        return None if left == self.resources else Request(self.rule, self.threads, Resources(left))


def requests(jobs: Iterable[Any]) -> list[Request]:
    """What these jobs of Snakemake ask Slurm for, each kind once."""
    found: dict[str, Request] = {}
    for job in jobs:
        if not job.is_local:
            # what depends on inputs that are not there yet is <TBD>, and goes to Slurm as nothing of what is here
            known = {name: value for name, value in job.resources.items() if name not in INTERNAL and value != "<TBD>"}
            request = Request(job.rule.name, job.threads, Resources(known))
            found.setdefault(f"{request.rule} {request.threads} {sorted(known.items())}", request)
    return list(found.values())


def refusals(asked: Sequence[Request], settings: Any, scale: str, arguments: Sequence[str] | None = None) -> list[str]:
    """Why Slurm would never run these jobs, and what to change; empty: it would run all of them.

    Args:
        asked: from :func:`requests`.
        settings: of the executor plugin (``workflow.executor_settings``).
        scale: whose file says how many GPUs and cores a job has, if no profile does.
        arguments: of Snakemake; default: of this process.
    """
    profiles = Profiles(sys.argv[1:] if arguments is None else arguments)
    found: dict[str, list[str]] = {}
    for request in asked:
        if (words := _refused(request, settings)) is not None:
            blamed = _blamed(request, words, settings)
        elif (waits := _waits_for_ever(request)) is not None:
            words, blamed = waits[0], [waits[1]]
        else:
            continue
        places = [profiles.place(request, name) or _scale_place(name, scale) for name in blamed]
        change = "; ".join(place for place in places if place)
        found.setdefault(f"{words}\n    change {change}" if change else words, []).append(request.rule)
    return [f"Slurm would not run {_jobs_of(rules)}: {why}" for why, rules in found.items()]


def _jobs_of(rules: Sequence[str]) -> str:
    return f"the jobs of {', '.join(dict.fromkeys(rules))}"


def submission(request: Request, settings: Any, log: str = "/dev/null") -> str:
    """The call of sbatch that submits such a job, as the executor plugin has it, without what the job is to do."""
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    def option(flag: str, name: str) -> str:
        return f"{flag} '{request.resources[name]}'" if request.resources.get(name) else ""

    call = get_submit_command(
        request,
        {
            "run_uuid": "test",
            "slurm_logfile": log,
            "comment_str": "",
            "account": option("-A", "slurm_account"),
            "partition": option("-p", "slurm_partition"),
            "workdir": "",
        },
        settings=settings,
    )
    return f"{call}{set_gres_string(request)}"


def _refused(request: Request, settings: Any) -> str | None:
    """Slurm's words, or those of the executor plugin, if it would refuse the job."""
    from snakemake_interface_common.exceptions import WorkflowError

    try:
        call = submission(request, settings)
    except WorkflowError as error:
        return f"{error} ({NO_DASH})" if "format" in str(error) else str(error)
    if _run(f"{call} --test-only --wrap=true").returncode == 0:
        return None
    # that also says no while nodes are away that would do. A job for next month is taken or refused like any other
    result = _run(f"{call} --begin=now+30days --wrap=true")
    if result.returncode == 0:
        _run(f"scancel {result.stdout.split(';')[0].strip()}")
        return None
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    return "; ".join(lines) or f"sbatch ended with exit status {result.returncode}"


def _waits_for_ever(request: Request) -> tuple[str, str] | None:
    """What Slurm takes and never starts, and the resource to blame: more time or cores than its partition has."""
    from snakemake_executor_plugin_slurm.utils import parse_time_to_minutes

    partition = request.resources.get("slurm_partition")
    if not partition:
        return None
    found = _run(f"sinfo --noheader --exact --partition '{partition}' --format '%l %c'").stdout.split()
    # several partitions have several limits, and "infinite" is none
    minutes, limits = request.resources.get("runtime", 0), found[::2]
    longest = max(limits, key=parse_time_to_minutes) if limits and all(text[0].isdigit() for text in limits) else None
    if longest and parse_time_to_minutes(longest) < minutes:
        words = f"{minutes} minutes are asked for, and partition {partition} gives {longest}: PartitionTimeLimit"
        return words, "runtime"
    (name, cores), most = request.cores, max((int(text) for text in found[1::2]), default=0)
    if 0 < most < cores:
        words = (
            f"{cores} cores are asked for, and no node of partition {partition} has more than {most}: PartitionConfig"
        )
        return words, name
    return None


def _run(command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, shell=True, capture_output=True, text=True, timeout=SECONDS, check=False, **more)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer from Slurm in {SECONDS} s")


def _blamed(request: Request, words: str, settings: Any) -> list[str]:
    """The resources that made Slurm refuse the job, as far as can be told."""
    for part, names in BLAMED_BY_WORDS.items():
        if re.search(rf"\binvalid\b.*\b{part}|\b{part}\b.*\binvalid\b", words, re.IGNORECASE):
            given = request.resources | {f"slurm-{name}": getattr(settings, name, None) for name in OF_ALL}
            return [name for name in names if given.get(name)]
    for name in BLAMED_BY_TRIAL:
        smaller = request.without(name)
        if smaller is not None and _refused(smaller, settings) is None:
            return [name]
    return []


def _scale_place(name: str, scale: str) -> str:
    gpus = "trainer.nnodes, trainer.n_gpus_per_node (below verl)"
    keys = {"gpu": gpus, "gres": gpus, "nodes": gpus, "threads": "threads"}
    return f"config/scales/{scale}.yaml: {keys[name]}" if name in keys else ""


class Profiles:
    """The profiles that Snakemake was called with, to say where a resource comes from."""

    def __init__(self, arguments: Sequence[str]) -> None:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--profile", action="append")
        parser.add_argument("--workflow-profile")
        parser.add_argument("--set-resources", nargs="*")
        parser.add_argument("--default-resources", "--default-res", nargs="*")
        for name in OF_ALL:
            parser.add_argument(f"--slurm-{name}", nargs=1)
        chosen, _ = parser.parse_known_args(list(arguments))
        named = chosen.profile or [os.environ.get("SNAKEMAKE_PROFILE"), None]
        self.files = [file for name in [*named, chosen.workflow_profile] if name and (file := _profile_file(name))]
        self.given = {name.replace("_", "-"): value for name, value in vars(chosen).items()}

    def place(self, request: Request, name: str) -> str:
        """Where a resource of a rule, or an option of the executor plugin, is set, and how; empty: in no profile."""
        if name.startswith("slurm-"):
            return self._find(name)
        aliases = NAMES.get(name, (name,)) if request.has_gpus else (name,)
        if name == "gpu_model" and name not in request.resources:  # of a job on several nodes
            aliases = ("gres", *aliases)
        of_rule = (self._find("set-resources", (request.rule, alias), f"{request.rule}:{alias}=") for alias in aliases)
        of_all = (self._find("default-resources", (alias,), f"{alias}=") for alias in aliases)
        return next(filter(None, [*of_rule, *of_all]), "")

    def _find(self, key: str, path: Sequence[str] = (), start: str = "") -> str:
        """In what counts for a key: the command line, or the last profile that has it."""
        if (given := self.given[key]) is not None:
            return next((f"--{key} {text}" for text in given if text.startswith(start)), "")
        for file in reversed(self.files):
            text = file.read_text()
            node = _below(yaml.compose(text), key)
            if node is None:
                continue
            for part in path:
                node = _below(node[1], part) if node else None
            if node is None:
                return ""
            line = node[0].start_mark.line
            return f"{_shown(file)}, line {line + 1}: {text.splitlines()[line].strip()}"
        return ""


def _below(node: Any, key: str) -> tuple[Any, Any] | None:
    """The nodes of a key and of its value."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next(((k, v) for k, v in node.value if k.value == key), None)


def _profile_file(name: str) -> Path | None:
    from snakemake.cli import get_profile_dir

    found = get_profile_dir(name)
    return Path(found[1]) if found else None


def _shown(file: Path) -> str:
    resolved = file.resolve()
    return str(resolved.relative_to(Path.cwd())) if resolved.is_relative_to(Path.cwd()) else str(file)


def mend_plugin() -> None:
    """Mend what the executor plugin (2.4 to 2.8) makes of its jobs; call it before anything is submitted.

    - A cancelled job is ``CANCELLED by 0`` in sacct, with who did it. The plugin knows ``CANCELLED`` alone, takes
      anything else for a job that runs, and would wait for ever: it is given the first word.
    - Asked for raw ids, sacct numbers the tasks of an array anew. The plugin knows them as ``<array>_<task>``, finds
      none, and would take the state of one task for that of all: the ids that squeue has, too, are asked for instead.
    - For some seconds sacct has one of an array's tasks under the array's own number. The plugin would take that state,
      too, for that of every task that is not listed yet: a task's state is looked for under its own id alone.
    - When Slurm does not answer, the plugin would forget its jobs, and wait for ever: it is told of no state, and so
      asks again at its next look.
    - While it asks, its list of jobs is empty, and Ctrl-C would cancel none: all jobs of the call are cancelled, by the
      name that they and no others have.
    """
    import snakemake_executor_plugin_slurm as plugin

    query = plugin.query_job_status

    async def states(command: str, logger: Any) -> tuple[dict[str, str], float]:
        found, seconds = await query(command.replace("JobIdRaw", "JobID"), logger)
        return {job: state.partition(" ")[0] for job, state in (found or {}).items()}, seconds or 0.0

    def cancel(executor: Any, jobs: Any) -> None:
        elsewhere = " --clusters=all" if getattr(executor, "_submitted_job_clusters", None) else ""
        command = f"scancel --name {executor.run_uuid}{elsewhere}"
        done = _run(command, start_new_session=True)  # so that another Ctrl-C does not end it
        if done.returncode != 0:
            executor.logger.warning(f"Jobs may still run, since they could not be cancelled ({command}): {done.stderr}")

    plugin.query_job_status = states
    plugin._status_lookup_ids = lambda job: [job]
    plugin.Executor.cancel_jobs = cancel


def report(failed: Iterable[Any], waiting: int, settings: Any = None) -> str:
    """The last words of a call of Snakemake that did not make everything: which jobs failed, and where their logs are.

    Args:
        failed: jobs of Snakemake.
        waiting: how many jobs were not started, because of those.
        settings: of the executor plugin, if that was Slurm's.
    """
    jobs = sorted(failed, key=str)
    more = "What is there is kept, and the same command continues."
    if not jobs:
        return f"Stopped before everything was made. {more}"
    lines = [f"{len(jobs)} failed, with these logs:"]
    for job in jobs:
        lines.append(f"    {' '.join([job.rule.name, *map(str, job.wildcards)])}: {' '.join(map(str, job.log))}")
        if not job.is_local and (log := _slurm_log(job, settings)):
            lines.append(f"        what Slurm has to say: {log}")
    if waiting:
        lines.append(f"{waiting} more were not started, since they need what failed.")
    return "\n".join([*lines, more])


def _slurm_log(job: Any, settings: Any) -> Path | None:
    """What Slurm has kept of a job's last submission, alone or as a task of an array."""
    place = getattr(settings, "logdir", None)
    if place is None:
        return None
    of_rule = Path(place) / f"rule_{job.rule.name}"
    alone = list((of_rule / "_".join(map(str, job.wildcards)).replace("/", "_")).glob("*.log"))
    # a task's is named by numbers alone; in it stands which log the job has
    logs = alone or [log for log in of_rule.glob("*.log") if _names(log, job.log)]
    return max(logs, key=lambda path: path.stat().st_mtime, default=None)


def _names(log: Path, files: Iterable[Any]) -> bool:
    text = log.read_text(errors="replace")
    return any(str(file) in text for file in files)
