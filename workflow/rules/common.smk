# Shared by the other files here: names, patterns of paths, and what an artefact depends on.
import json
import re
import sys
from functools import cache
from pathlib import Path

from asymgrpo import plan
from asymgrpo.figures import FIGURES
from asymgrpo.report.responses import of_first_seed
from asymgrpo.tables import TABLES

RESULTS = f"results/{study.scale}"
RUN = f"{RESULTS}/runs/{{backbone}}/{{method}}/seed-{{seed}}"
EVALUATION = f"{RESULTS}/evaluation/{{backbone}}/{{method}}/seed-{{seed}}"
WARM_START = f"{RESULTS}/warm-start/{{backbone}}/seed-{{seed}}"
BENCHMARKS = [f"{RESULTS}/data/benchmarks/{name}.parquet" for name in study.benchmarks]
BASE = "base"
# Used with --sdm conda only: of what trains and samples, and of everything else.
RUN_ENVIRONMENT = f"../../envs/{study.environment}.yaml"
ENVIRONMENT = "../../envs/local.yaml"
DEFAULT_RESOURCES = workflow.resource_settings.default_resources or {}
SAMPLER_SETTINGS = study.settings.get("sampler_settings", {})


def one_of(names):
    """A pattern for these names; if there are none, for nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    backbone=one_of(study.backbones),
    method=one_of(study.every_method),
    seed=r"[1-9]\d*",
    benchmark=one_of(study.benchmarks),


def as_json(value):
    return json.dumps(value, sort_keys=True)


def fixed(value):
    """A parameter as it is: Snakemake would take braces in a plain string for wildcards."""
    return lambda wildcards: value


def site(name):
    """What a profile says of its site under default-resources; None: nothing."""
    return DEFAULT_RESOURCES[name].raw if name in DEFAULT_RESOURCES else None


# Beside any --default-resources Snakemake guesses memory and disk from the size of each job's inputs, which takes longer
# than all the rest of a plan. What somebody has written stays: that is not lost in `raw`.
for _guess in ("mem_mb", "disk_mb"):
    if _guess in DEFAULT_RESOURCES and site(_guess) is None:
        DEFAULT_RESOURCES[_guess] = None


def on_gpus(count, nodes=1):
    """Resources of a rule's jobs; `count`: of GPUs on all nodes, or a function of wildcards, which takes longer."""
    if not callable(count):
        return slurm.asked_for(count, nodes, site)
    names = {**slurm.asked_for(0, nodes, site), **slurm.asked_for(2 * nodes, nodes, site)}
    return {name: resource_of(name, count, nodes) for name in names}


def resource_of(name, count, nodes):
    return lambda wildcards: slurm.asked_for(count(wildcards), nodes, site).get(name)


@cache
def rollout_of(backbone):
    """Of a backbone's runs; no method and no seed has another."""
    return study.spec(Run(backbone, next(iter(study.methods)), study.seeds[0]))["rollout"]


def response_tokens(wildcards):
    """The longest response of a backbone."""
    return rollout_of(wildcards.backbone)["max_response_tokens"]


def longest_prompt(wildcards):
    """What a backbone's prompts are meant to have at most, in tokens."""
    return rollout_of(wildcards.backbone)["max_prompt_tokens"]


def template_arguments(wildcards):
    """Of a backbone's chat template, as in training."""
    return as_json(study.backbones[wildcards.backbone].start.get("template", {}))


def run_of(wildcards):
    return Run(wildcards.backbone, wildcards.method, int(wildcards.seed))


def start_of(wildcards):
    """Backbone and seed of the start policy of a run."""
    return wildcards.backbone, study.start_seed(wildcards.backbone, int(wildcards.seed))


def start_files(backbone, seed):
    """What must be there for a start policy to be there: a fetched one is no output, but its record is (data.smk)."""
    if study.backbones[backbone].fetched:
        return f"{study.model_dir(backbone)}.yaml"
    return study.start_policy(backbone, seed).as_posix()


def record_of(problems):
    """The record of a fetched set of problems (data.smk); none for generated ones."""
    return f"{study.raw_dir(problems.name)}.yaml" if problems and problems.fetched else []


# An artefact may have several files: Prop. 1 has a figure that needs no run beside the one that does, the claims have a
# table, whose verdicts two figures show.
FILES_OF = {"prop1": ["prop1_tabular", "prop1"], "claims": ["claims", "power"]}
FROM_CLAIMS = FILES_OF["claims"]


def table_endings(name):
    return [".csv", ".md", ".tex", *([".json"] if name == "claims" else [])]


def targets(artefact):
    names = FILES_OF.get(artefact, [artefact])
    figures = [f"figures/{study.scale}/{name}" for name in names if name in FIGURES]
    tables = [(f"{RESULTS}/tables/{name}", table_endings(name)) for name in names if name in TABLES]
    return [stem + ending for stem in figures for ending in (".pdf", ".svg", ".png", ".csv", ".md")] + [
        stem + ending for stem, endings in tables for ending in endings
    ]


def artefact_of(name):
    """Whose runs and settings a figure or table has; one that is named otherwise needs no run itself."""
    return next((artefact for artefact, names in FILES_OF.items() if name in names), name)


def claims_code(name):
    """What verdicts are made with, beside the runs."""
    if name != "claims":
        return []
    return ["config/claims.yaml", *map(str, sorted(Path("src/asymgrpo/analysis/claims").glob("*.py")))]


def run_files(name):
    """Of the runs that a figure or table reads, the records, each of which stands for all files of its run.

    They are made together, the record last; and large studies are planned sooner.
    """
    return [f"{study.runs_dir(run)}/run.yaml" for run in study.runs(name)] if name == artefact_of(name) else []


def score_files(name):
    """Of the policies whose scores a figure or table reads (its runs', and the untrained ones), the last benchmark's,
    which likewise stand for those of all benchmarks.
    """
    last = list(study.benchmarks)[-1]
    places = [study.evaluation_dir(run) for run in plan.evaluated(study, name)] if name == artefact_of(name) else []
    return [f"{place}/{last}.scores.parquet" for place in places]


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
            "chosen": study.settings.get("methods"),
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
        if job.rule.name in ("warm_start", "train", "train_agreement")
    ]


def ablation_files(wildcards):
    """The records of the runs that the page shows, and their final scores."""
    needed = study.ablation(wildcards.method)
    return [f"{study.runs_dir(run)}/run.yaml" for run in needed] + [
        f"{study.evaluation_dir(run)}/{name}.scores.parquet" for run in needed for name in study.benchmarks
    ]


def ablation_shown(wildcards):
    """What the page takes from the configuration: if it changes, only the page is made again."""
    of_first_seed = [run for run in study.ablation(wildcards.method) if run.seed == study.seeds[0]]
    return as_json(
        {
            "settings": {run.method: study.provenance(run) for run in of_first_seed},
            "labels": [
                (study.every_method[run.method].label, study.every_method[run.method].math) for run in of_first_seed
            ],
            "backbone": (study.backbones[study.primary].label, study.backbones[study.primary].stands_for),
            "benchmarks": [(b.name, b.label) for b in study.benchmarks.values()],
            "artefacts": [study.artefact("fig4").settings, study.artefact("table2").decodings],
        }
    )


# The report


def report_responses():
    """The responses that it chooses from, with their verdicts; none if Table 2 is not asked for."""
    if "table2" not in study.artefacts:
        return []
    return [
        f"{study.evaluation_dir(run)}/{name}.{kind}.parquet"
        for run in of_first_seed(study)
        for name in study.benchmarks
        for kind in ("samples", "scores")
    ]


def report_code():
    """What makes the page: modules, template, style, scripts."""
    endings = (".py", ".j2", ".css", ".js")
    return [str(path) for path in sorted(Path("src/asymgrpo/report").rglob("*")) if path.suffix in endings]


def report_shown():
    """What the page takes from the configuration: names, and where settings come from is in the runs."""
    return as_json(
        {
            "backbones": [(b.name, b.label, b.stands_for) for b in study.backbones.values()],
            "methods": [(m.name, m.label) for m in study.methods.values()],
            "benchmarks": [(b.name, b.label) for b in study.benchmarks.values()],
            "artefacts": [(name, study.artefact(name).title) for name in study.artefacts],
        }
    )
