# Figures: drawn from the runs' files; those that need none come first. Local: seconds each, of one core.


def figure_rule_priority(name):
    return 0 if run_files(name) else 100


for _figure in FIGURES:

    rule:
        name:
            f"draw_{_figure}"
        input:
            runs=[] if _figure in FROM_CLAIMS else run_files(_figure),
            scores=[] if _figure in FROM_CLAIMS else score_files(_figure),
            claims=f"{RESULTS}/tables/claims.json" if _figure in FROM_CLAIMS else [],
            code=[f"src/asymgrpo/figures/{module}.py" for module in ("__init__", "style", _figure)],
        output:
            multiext(f"figures/{study.scale}/{_figure}", ".pdf", ".png", ".csv", ".md"),
            report(
                f"figures/{study.scale}/{_figure}.svg",
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": _figure, "shows": study.artefact(artefact_of(_figure)).title},
            ),
        log:
            f"{RESULTS}/logs/figures/{_figure}.log",
        priority: figure_rule_priority(_figure)
        localrule: True
        conda:
            ENVIRONMENT
        params:
            shown=fixed(shown(_figure)),
            name=_figure,
            scale=study.scale,
            seeds=",".join(map(str, study.seeds)),
        shell:
            "asymgrpo figure {params.name} --scale {params.scale} --seeds {params.seeds} > {log:q} 2>&1"
