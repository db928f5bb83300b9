# The report: one page with everything that the scale has, results/<scale>/report.html. Of every run it shows the curves and
# settings, of the first seed some responses. Local: less than a minute of one core.
rule report:
    input:
        made=[target for name in study.artefacts for target in targets(name)],
        runs=[f"{study.runs_dir(run)}/run.yaml" for run in study.runs()],
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
