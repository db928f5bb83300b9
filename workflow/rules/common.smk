# Shared by the other files here: names, patterns of paths, and what an artefact depends on.
import json
import re
import sys
from pathlib import Path

from asymgrpo.figures import FIGURES
from asymgrpo.tables import TABLES

RESULTS = f"results/{study.scale}"
RUN = f"{RESULTS}/runs/{{backbone}}/{{method}}/seed-{{seed}}"
EVALUATION = f"{RESULTS}/evaluation/{{backbone}}/{{method}}/seed-{{seed}}"
WARM_START = f"{RESULTS}/warm-start/{{backbone}}/seed-{{seed}}"
BENCHMARKS = [f"{RESULTS}/data/benchmarks/{name}.parquet" for name in study.benchmarks]
BASE = "base"
ENVIRONMENT = "../../envs/local.yaml"  # used with --sdm conda only


wildcard_constraints:
    backbone="|".join(map(re.escape, study.backbones)),
    method="|".join(map(re.escape, study.methods)),
    seed=r"[1-9]\d*",
    benchmark="|".join(map(re.escape, study.benchmarks)),


def as_json(value):
    return json.dumps(value, sort_keys=True)


def fixed(value):
    """A parameter as it is: Snakemake would take braces in a plain string for wildcards."""
    return lambda wildcards: value


def response_tokens(wildcards):
    """The longest response of a backbone; no method has another."""
    run = Run(wildcards.backbone, next(iter(study.methods)), study.seeds[0])
    return study.spec(run)["rollout"]["max_response_tokens"]


def run_of(wildcards):
    return Run(wildcards.backbone, wildcards.method, int(wildcards.seed))


# An artefact may have several files: Prop. 1 has a figure that needs no run beside the one that does.
FILES_OF = {"prop1": ["prop1_tabular", "prop1"]}


def targets(artefact):
    return [
        (f"figures/{study.scale}/{name}.{ending}" if name in FIGURES else f"{RESULTS}/tables/{name}.{ending}")
        for name in FILES_OF.get(artefact, [artefact])
        for ending in (["pdf", "png", "csv", "md"] if name in FIGURES else ["csv", "md", "tex"])
    ]


def artefact_of(name):
    return name.removesuffix("_tabular")


def run_files(name):
    """The files of runs that a figure or table reads."""
    if name != artefact_of(name):
        return []
    files = []
    for run in study.runs(name):
        files += [f"{study.runs_dir(run)}/{kind}.parquet" for kind in ("steps", "groups", "evaluations")]
    return files


def score_files(name):
    """The scores that a figure or table reads: those of its runs, and of the untrained policies."""
    if name != artefact_of(name) or not study.artefact(name).decodings:
        return []
    places = [study.evaluation_dir(run) for run in study.runs(name)]
    if name in TABLES:
        places += [study.base_evaluation_dir(*start) for start in study.warm_starts()]
    return [f"{place}/{benchmark}.scores.parquet" for place in places for benchmark in study.benchmarks]


def shown(name):
    """What a figure or table takes from the configuration: if it changes, only the drawing is repeated."""
    artefact = artefact_of(name)
    methods = {b: study.methods_of(artefact, b) for b in study.backbones}
    named = {m for names in methods.values() for m in names}
    return as_json(
        {
            "artefact": [study.artefact(artefact).title, study.artefact(artefact).settings],
            "methods": {
                b: [(m, study.methods[m].label, study.methods[m].math) for m in names] for b, names in methods.items()
            },
            "backbones": [(b.name, b.label, b.stands_for) for b in study.backbones.values()],
            "benchmarks": [(b.name, b.label) for b in study.benchmarks.values()],
            "seeds": study.seeds,
            "grid": [[*cell, method] for cell, method in study.grid().items()] if study.artefact(artefact).grid else [],
            "assumed": study.assumed(artefact),
        }
    )


def training_jobs(dag):
    """What the console's line on progress and time left is about."""
    return [
        progress.Job(
            Path(job.output.record),
            Path(job.params.work),
            json.loads(job.params.spec)["steps"],
            warm_start=job.rule.name == "warm_start",
        )
        for job in dag.needrun_jobs()
        if job.rule.name in ("warm_start", "train")
    ]
