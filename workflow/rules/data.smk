# Problems: what is trained on, and the benchmarks.


rule training_problems:
    output:
        f"{RESULTS}/data/train.parquet",
    log:
        f"{RESULTS}/logs/data/train.log",
    priority: 100
    conda:
        ENVIRONMENT
    params:
        settings=fixed(as_json(study.settings["data"]["train"])),
    shell:
        "asymgrpo problems --kind train --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"


rule benchmark:
    output:
        f"{RESULTS}/data/benchmarks/{{benchmark}}.parquet",
    log:
        f"{RESULTS}/logs/data/{{benchmark}}.log",
    priority: 100
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: as_json(study.benchmarks[wildcards.benchmark].settings),
    shell:
        "asymgrpo problems --kind benchmark --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"
