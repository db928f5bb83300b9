# Tables: csv for machines, md for people, tex for papers. Local: seconds each, of one core.
# What says how the paper evaluates, whatever the scale.
PROTOCOL = ["config/benchmarks.yaml", "config/scales/paper.yaml"]

for _table in TABLES:

    rule:
        name:
            f"build_{_table}"
        input:
            runs=run_files(_table),
            scores=score_files(_table),
            reported="config/reported/table2.csv" if _table in ("table2", "reported", "audit", "claims") else [],
            protocol=PROTOCOL if _table == "audit" else [],
            claims=claims_code(_table),
            overlap=study.overlap_file().as_posix() if _table == "evaluation" else [],
            code=[f"src/asymgrpo/tables/{module}.py" for module in ("__init__", "render", _table)],
        output:
            multiext(f"{RESULTS}/tables/{_table}", *(ending for ending in table_endings(_table) if ending != ".csv")),
            report(
                f"{RESULTS}/tables/{_table}.csv",
                caption="../report/table.rst",
                category="Tables",
                labels={"table": _table, "shows": study.artefact(artefact_of(_table)).title},
            ),
        log:
            f"{RESULTS}/logs/tables/{_table}.log",
        localrule: True
        conda:
            ENVIRONMENT
        params:
            shown=fixed(shown(_table)),
            name=_table,
            scale=study.scale,
            seeds=",".join(map(str, study.seeds)),
        shell:
            "asymgrpo table {params.name} --scale {params.scale} --seeds {params.seeds} > {log:q} 2>&1"
