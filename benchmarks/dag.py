"""The DAG of a large study, planned: 20 methods x 5 backbones x 10 seeds are 1,000 runs and some 3,000 jobs.

A scale of that size is written into a temporary copy of the workflow; nothing but configuration is changed. Measured
are `snakemake -n` there, and `asymgrpo status` before anything has run and when all of it is done (records and empty
files in its place); beside them `snakemake -n` on a bare Snakefile: the same rules with the same files, wildcards and
dependencies, as many jobs, but without this project's library, parameters, resources and priorities.
Prints wall-clock and CPU seconds and peak memory of each, and the ratios to the bare one. Exits with status 1 if an
aim is missed: 10 s for the dry run, 2 s for a status, 500 MB. Each process has one busy thread, so alone on a machine
it takes its CPU seconds; these are what is compared with the aims, for others on the machine change them little.

    python benchmarks/dag.py                               # about two minutes
    python benchmarks/dag.py --seeds 2 --rounds 1
    python benchmarks/dag.py --profile slurm               # as it would be submitted; also takes no Slurm
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
SCALE = "large"
AIMS = {"snakemake -n": 10.0, "status": 2.0}
MEMORY = 500e6

BARE = """
import json

known = json.load(open("known.json"))
BENCHMARKS = [f"data/benchmarks/{name}.parquet" for name in known["benchmarks"]]
RUN, WORK = "{backbone}/{method}/seed-{seed}", "{backbone}/seed-{seed}"

wildcard_constraints:
    backbone="|".join(known["backbones"]), method="|".join(known["methods"]), seed=r"[1-9]\\d*"

rule all:
    input:
        [path for drawn in known["drawn"].values() for path in drawn["output"]],
        "data/overlap.csv",
        [f"other/{n}.txt" for n in range(known["others"])],

rule problems:
    output: "data/train.parquet"
    shell: "touch {output}"

rule benchmark:
    output: "data/benchmarks/{benchmark}.parquet"
    shell: "touch {output}"

rule overlap:
    input: rules.problems.output, BENCHMARKS
    output: "data/overlap.csv"
    shell: "touch {output}"

rule warm_start:
    output: policy=directory(f"warm-start/{WORK}/policy"), record=f"warm-start/{WORK}/run.yaml"
    log: f"logs/warm-start/{WORK}.log"
    shell: "touch {output}"

rule train:
    input:
        start=lambda w: f"warm-start/{w.backbone}/seed-{known['start'][w.seed]}/policy",
        problems=rules.problems.output,
        benchmarks=BENCHMARKS,
    output:
        [f"runs/{RUN}/{name}.parquet" for name in ("steps", "groups", "timings", "evaluations")],
        record=f"runs/{RUN}/run.yaml",
        last=directory(f"runs/{RUN}/policy/last"),
        best=directory(f"runs/{RUN}/policy/best"),
    log: f"logs/train/{RUN}.log"
    shell: "touch {output}"

rule sample:
    input: last=rules.train.output.last, best=rules.train.output.best, benchmarks=BENCHMARKS
    output:
        [f"evaluation/{RUN}/{name}.samples.parquet" for name in known["benchmarks"]],
        f"evaluation/{RUN}/sampling.yaml",
    log: f"logs/sample/{RUN}.log"
    shell: "touch {output}"

rule sample_base:
    input: start="warm-start/{backbone}/seed-{seed}/policy", benchmarks=BENCHMARKS
    output:
        [f"evaluation/{{backbone}}/base/seed-{{seed}}/{name}.samples.parquet" for name in known["benchmarks"]],
        "evaluation/{backbone}/base/seed-{seed}/sampling.yaml",
    log: "logs/sample/{backbone}/base/seed-{seed}.log"
    shell: "touch {output}"

rule score:
    input: samples=[f"evaluation/{RUN}/{name}.samples.parquet" for name in known["benchmarks"]], benchmarks=BENCHMARKS
    output: [f"evaluation/{RUN}/{name}.scores.parquet" for name in known["benchmarks"]]
    log: f"logs/score/{RUN}.log"
    wildcard_constraints: method="|".join([*known["methods"], "base"])
    shell: "touch {output}"

rule other:
    output: "other/{n}.txt"
    shell: "touch {output}"

for name, drawn in known["drawn"].items():
    rule:
        name: f"draw_{name}"
        input: drawn["input"]
        output: drawn["output"]
        log: f"logs/{name}.log"
        shell: "touch {output}"
"""


@dataclass(frozen=True)
class Cost:
    """Of one process."""

    wall: float
    cpu: float
    memory: float
    output: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=int, default=20, help="the first so many of config/methods.yaml")
    parser.add_argument("--backbones", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="alternations; the median counts")
    parser.add_argument("--profile", help="of the dry run, such as slurm; default: profiles/default alone")
    parser.add_argument(
        "--keep", type=Path, metavar="DIRECTORY", help="make the workflow and the bare one here, and stay"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = chosen.keep or Path(scratch)
        large, bare = place / "large", place / "bare"
        copy(large)
        write_scale(large, chosen.methods, chosen.backbones, chosen.seeds)
        write_bare(large, bare)
        return report(large, bare, chosen.rounds, chosen.profile)


def copy(target: Path) -> None:
    """What a clone holds of the workflow; the library is the installed one."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for part in ("workflow", "config", "profiles", "envs", "src"):
        shutil.copytree(ROOT / part, target / part, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", target)
    (target / "slurm").symlink_to("profiles/slurm")


def write_scale(clone: Path, methods: int, backbones: int, seeds: int) -> None:
    """The local scale with so many of each, every method on every backbone."""

    def ours(value: Any) -> dict[str, Any]:
        return {"value": value, "provenance": "ours", "note": "for the benchmark"}

    config = clone / "config"
    scale = yaml.safe_load((config / "scales" / "local.yaml").read_text())
    first = next(iter(scale["backbones"].values()))
    known = list(yaml.safe_load((config / "methods.yaml").read_text())["methods"])
    if len(known) < methods:
        raise SystemExit(f"config/methods.yaml has {len(known)} methods, fewer than {methods}")
    scale |= {
        "methods": ours(known[:methods]),
        "backbones": {f"backbone-{n}": first | {"label": f"Backbone {n}"} for n in range(1, backbones + 1)},
        "seeds": ours(list(range(1, seeds + 1))),
        "grid": {beta: ours([0.5]) for beta in ("beta_pos", "beta_neg")},  # GRPO, which is one of the methods anyway
    }
    (config / "scales" / f"{SCALE}.yaml").write_text(yaml.safe_dump(scale, sort_keys=False))
    artefacts = yaml.safe_load((config / "artefacts.yaml").read_text())
    for name in ("table2", "evaluation"):
        artefacts["artefacts"][name]["methods"] = ours(dict.fromkeys(("primary", "second", "others"), "all"))
    (config / "artefacts.yaml").write_text(yaml.safe_dump(artefacts, sort_keys=False))


# With the library, in a process of its own, so that this one stays small: a child is not told to have had less memory.
KNOWN = """
import json, sys
from asymgrpo import plan
from asymgrpo.config import load
from asymgrpo.figures import FIGURES
from asymgrpo.tables import TABLES

def place(run):
    return f"{run.backbone}/{run.method}/seed-{run.seed}"

study = load(".", {"scale": sys.argv[1]})
drawn = {}
for name in [*FIGURES, *TABLES]:
    shown = name in study.every_artefact
    runs, evaluated = (study.runs(name), plan.evaluated(study, name)) if shown else ([], [])
    endings = ("pdf", "png", "csv", "md") if name in FIGURES else ("csv", "md", "tex")
    drawn[name] = {
        "input": [f"runs/{place(run)}/run.yaml" for run in runs]
        + [f"evaluation/{place(run)}/{list(study.benchmarks)[-1]}.scores.parquet" for run in evaluated],
        "output": [f"drawn/{name}.{ending}" for ending in endings],
    }
start = {str(seed): study.start_seed(study.primary, seed) for seed in study.seeds}
known = {"backbones": list(study.backbones), "methods": list(study.methods), "benchmarks": list(study.benchmarks)}
print(json.dumps(known | {"drawn": drawn, "runs": len(study.runs()), "others": 0, "start": start}))
"""

# Records as the backends write them; of everything else the status only asks whether it is there.
DONE = """
import sys
from dataclasses import asdict
from asymgrpo.config import load
from asymgrpo.status import OUTPUTS
from asymgrpo.training.runtime import write_yaml
from asymgrpo.training.spec import run_spec, warm_start_spec

study = load(".", {"scale": sys.argv[1]})
for backbone, seed in study.warm_starts():
    place = study.warm_start_dir(backbone, seed)
    (place / "policy").mkdir(parents=True)
    (place / "policy" / "config.json").touch()
    write_yaml(place / "run.yaml", {"spec": asdict(warm_start_spec(study.warm_start(backbone, seed)))})
for run in study.runs():
    place = study.runs_dir(run)
    for name in OUTPUTS:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch() if "." in name else (place / name).mkdir()
    spec = asdict(run_spec(study.spec(run)))
    write_yaml(place / "run.yaml", {"spec": spec, "fingerprint": "0", "settings": study.provenance(run)})
"""


def write_bare(large: Path, bare: Path) -> None:
    """The bare Snakefile, what it takes from the configuration as plain data, and the same default profile."""
    bare.mkdir()
    (bare / "known.json").write_text(python(large, KNOWN, SCALE))
    (bare / "Snakefile").write_text(BARE)
    shutil.copytree(large / "profiles" / "default", bare / "profiles" / "default")


def report(large: Path, bare: Path, rounds: int, profile: str | None) -> int:
    snakemake = [sys.executable, "-m", "snakemake", "-n"]
    ours = [*snakemake, *(["--profile", profile] if profile else []), "--config", f"scale={SCALE}"]
    status = [sys.executable, "-m", "asymgrpo", "status", "--scale", SCALE]
    study = fill(bare / "known.json", total(run(ours, large).output) - total(run(snakemake, bare).output))

    costs: dict[str, list[Cost]] = {"bare": [], "snakemake -n": [], "status": [], "status, all done": []}
    for _ in range(rounds):
        costs["bare"].append(run(snakemake, bare))
        costs["snakemake -n"].append(run(ours, large))
        costs["status"].append(run(status, large))
    jobs = {name: total(costs[name][0].output) for name in ("bare", "snakemake -n")}
    if jobs["bare"] != jobs["snakemake -n"]:
        raise SystemExit(f"the two workflows have different numbers of jobs: {jobs}")
    print(f"{study['runs']} runs, {jobs['bare']} jobs; medians of {rounds}")
    python(large, DONE, SCALE)
    for _ in range(rounds):
        costs["status, all done"].append(run(status, large))
        if f"{study['runs']} done" not in costs["status, all done"][-1].output:
            raise SystemExit(costs["status, all done"][-1].output)

    medians = {name: of_all(found) for name, found in costs.items()}
    print(f"{'':18}{'wall s':>9}{'CPU s':>9}{'MB':>7}   of the bare one's: wall, CPU, memory")
    for name, (wall, cpu, memory) in medians.items():
        pairs = zip((wall, cpu, memory), medians["bare"], strict=True)
        ratios = "".join(f"{own / bare_one:8.2f}" for own, bare_one in pairs)
        print(f"{name:18}{wall:9.2f}{cpu:9.2f}{memory / 1e6:7.0f}   {ratios}")
    missed = [
        f"{name}: {cpu:.1f} s, {memory / 1e6:.0f} MB"
        for name, (_, cpu, memory) in medians.items()
        if name != "bare" and (cpu > AIMS[name.split(",")[0]] or memory > MEMORY)
    ]
    print(f"missed: {'; '.join(missed)}" if missed else "every aim is met: dry run in 10 s, status in 2 s, 500 MB")
    return 1 if missed else 0


def fill(file: Path, jobs: int) -> Any:
    """Give the bare workflow so many more jobs, for rules of the project that it does not have."""
    known = json.loads(file.read_text()) | {"others": max(jobs, 0)}
    file.write_text(json.dumps(known))
    return known


def of_all(costs: Sequence[Cost]) -> tuple[float, float, float]:
    """Medians of wall, CPU and memory."""
    wall, cpu, memory = (median([getattr(cost, key) for cost in costs]) for key in ("wall", "cpu", "memory"))
    return wall, cpu, memory


def python(directory: Path, code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=directory, check=True, stdout=subprocess.PIPE, text=True).stdout


def run(command: Sequence[str], directory: Path) -> Cost:
    """A process from its start to its end; memory is that of the largest of its own processes."""
    with tempfile.TemporaryFile() as written:
        before = time.perf_counter()
        process = subprocess.Popen(command, cwd=directory, stdout=written, stderr=subprocess.STDOUT)
        _, code, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - before
        process.returncode = os.waitstatus_to_exitcode(code)
        written.seek(0)
        output = written.read().decode()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{output[-3000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * unit, output)


def total(output: str) -> int:
    """The number of jobs that a dry run counts."""
    return int(re.findall(r"^total +(\d+)$", output, re.MULTILINE)[0])


def median(numbers: list[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


if __name__ == "__main__":
    sys.exit(main())
