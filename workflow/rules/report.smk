# The report: one page with everything that the scale has, results/<scale>/report.html. Of every run it shows the curves and
# settings, of the first seed some responses. Local: less than a minute of one core.


def report_runs():
    """The files of runs that the page reads."""
    kinds = ("run.yaml", "steps.parquet", "evaluations.parquet", "timings.parquet")
    return [f"{study.runs_dir(run)}/{kind}" for run in study.runs() for kind in kinds]


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


rule report:
    input:
        made=[target for name in study.artefacts for target in targets(name)],
        runs=report_runs(),
        responses=report_responses(),
        problems=BENCHMARKS if study.runs() else [],
        code=report_code(),
    output:
        report(study.report_file().as_posix(), caption="../report/report.rst", category="Report"),
    log:
        f"{RESULTS}/logs/report.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        shown=fixed(report_shown()),
        scale=study.scale,
        seeds=",".join(map(str, study.seeds)),
    shell:
        "asymgrpo report --scale {params.scale} --seeds {params.seeds} > {log:q} 2>&1"
