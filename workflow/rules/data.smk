# Problems: what is trained on, and the benchmarks; and whatever comes from the Hugging Face hub.
#
# Fetching is local: compute nodes have no internet. What is fetched is no declared output, because Snakemake deletes those
# before a job: files that somebody has put there by hand must stay. The output is the record of the fetch beside them.


# Converting and counting problems is local, too: seconds of one core, less than a job of Slurm takes to start.
localrules:
    fetch,
    fetch_problems,
    fetch_model,
    training_problems,
    benchmark,
    overlap,


FETCHED_PROBLEMS = study.fetched_problems()
FETCHED_MODELS = [name for name, backbone in study.backbones.items() if backbone.fetched]


rule fetch_problems:
    output:
        f"{RESULTS}/data/raw/{{problems}}.yaml",
    log:
        f"{RESULTS}/logs/fetch/{{problems}}.log",
    wildcard_constraints:
        problems=one_of(FETCHED_PROBLEMS),
    priority: 100
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: as_json(FETCHED_PROBLEMS[wildcards.problems].settings),
        scale=study.scale,
    shell:
        "asymgrpo fetch --scale {params.scale} {wildcards.problems} > {log:q} 2>&1"


rule fetch_model:
    output:
        f"{RESULTS}/models/{{backbone}}.yaml",
    log:
        f"{RESULTS}/logs/fetch/{{backbone}}.log",
    wildcard_constraints:
        backbone=one_of(FETCHED_MODELS),
    priority: 100
    conda:
        ENVIRONMENT
    params:
        model=lambda wildcards: as_json(study.backbones[wildcards.backbone].model),
        scale=study.scale,
    shell:
        "asymgrpo fetch --scale {params.scale} {wildcards.backbone} > {log:q} 2>&1"


rule training_problems:
    input:
        record=record_of(study.train_dataset),
    output:
        f"{RESULTS}/data/train.parquet",
    log:
        f"{RESULTS}/logs/data/train.log",
    priority: 100
    conda:
        ENVIRONMENT
    params:
        settings=fixed(as_json(study.train_problems)),
        record=lambda wildcards, input: (f"--record {input.record}" if input.record else ""),
    shell:
        "asymgrpo problems --kind train --settings {params.settings:q} {params.record} --out {output:q} > {log:q} 2>&1"


rule benchmark:
    input:
        record=lambda wildcards: record_of(study.benchmarks[wildcards.benchmark]),
    output:
        f"{RESULTS}/data/benchmarks/{{benchmark}}.parquet",
    log:
        f"{RESULTS}/logs/data/{{benchmark}}.log",
    priority: 100
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: as_json(study.benchmarks[wildcards.benchmark].settings),
        record=lambda wildcards, input: (f"--record {input.record}" if input.record else ""),
    shell:
        "asymgrpo problems --kind benchmark --settings {params.settings:q} {params.record} --out {output:q} > {log:q} 2>&1"


rule overlap:
    input:
        problems=rules.training_problems.output,
        benchmarks=BENCHMARKS,
    output:
        study.overlap_file().as_posix(),
    log:
        f"{RESULTS}/logs/data/overlap.log",
    priority: 100
    conda:
        ENVIRONMENT
    shell:
        "asymgrpo overlap --problems {input.problems:q} --benchmarks {input.benchmarks:q} --out {output:q} > {log:q} 2>&1"


# Everything that needs the internet; after it, and with HF_HUB_OFFLINE=1, the rest runs without.
rule fetch:
    input:
        [f"{study.model_dir(name)}.yaml" for name in FETCHED_MODELS],
        rules.training_problems.output,
        BENCHMARKS,
        rules.overlap.output,
