# Start policies and runs. What a run depends on in the configuration is in its spec and nowhere else; checkpoints to
# resume from lie in work/, because Snakemake deletes declared outputs before a job starts again.


rule warm_start:
    output:
        policy=directory(f"{WARM_START}/policy"),
        record=f"{WARM_START}/run.yaml",
    log:
        f"{RESULTS}/logs/warm-start/{{backbone}}/seed-{{seed}}.log",
    # the primary backbone has the longest warm start and the most runs behind it
    priority: 90
    conda:
        ENVIRONMENT
    threads: study.settings["threads"]
    params:
        spec=lambda wildcards: as_json(study.warm_start(wildcards.backbone, int(wildcards.seed))),
        out=subpath(output.record, parent=True),
        work=f"{RESULTS}/work/warm-start/{{backbone}}/seed-{{seed}}",
    shell:
        "asymgrpo warm-start --spec {params.spec:q} --out {params.out:q} --work {params.work:q} > {log:q} 2>&1"


rule train:
    input:
        start=lambda wildcards: f"{study.warm_start_dir(wildcards.backbone, study.warm_start_seed(int(wildcards.seed)))}/policy",
        problems=rules.training_problems.output,
        benchmarks=BENCHMARKS,
    output:
        record=f"{RUN}/run.yaml",
        steps=f"{RUN}/steps.parquet",
        groups=f"{RUN}/groups.parquet",
        timings=f"{RUN}/timings.parquet",
        evaluations=f"{RUN}/evaluations.parquet",
        last=directory(f"{RUN}/policy/last"),
        best=directory(f"{RUN}/policy/best"),
    log:
        f"{RESULTS}/logs/train/{{backbone}}/{{method}}/seed-{{seed}}.log",
    conda:
        ENVIRONMENT
    threads: study.settings["threads"]
    params:
        spec=lambda wildcards: as_json(study.spec(run_of(wildcards))),
        out=subpath(output.record, parent=True),
        work=f"{RESULTS}/work/{{backbone}}/{{method}}/seed-{{seed}}",
    shell:
        "asymgrpo train --spec {params.spec:q} --start {input.start:q} --problems {input.problems:q}"
        " --benchmarks {input.benchmarks:q}"
        " --out {params.out:q} --work {params.work:q} > {log:q} 2>&1"
