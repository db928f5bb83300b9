# Start policies and runs. What a run depends on in the configuration is in its spec and nowhere else; checkpoints to
# resume from lie in work/, because Snakemake deletes declared outputs before a job starts again. Start policies that are
# fetched instead of trained are in data.smk.
#
# exec: a shell between Snakemake and the training would die of the SIGTERM that Slurm sends when the time is up, and take
# the training along before it has saved its step.


rule warm_start:
    output:
        policy=directory(f"{WARM_START}/policy"),
        record=f"{WARM_START}/run.yaml",
    log:
        f"{RESULTS}/logs/warm-start/{{backbone}}/seed-{{seed}}.log",
    wildcard_constraints:
        backbone=one_of(name for name, backbone in study.backbones.items() if not backbone.fetched),
    # the primary backbone has the longest warm start and the most runs behind it
    priority: 90
    conda:
        ENVIRONMENT
    threads: study.settings.get("warm_start", {}).get("threads", study.settings["threads"])
    params:
        spec=lambda wildcards: as_json(study.warm_start(wildcards.backbone, int(wildcards.seed))),
        out=subpath(output.record, parent=True),
        work=f"{RESULTS}/work/warm-start/{{backbone}}/seed-{{seed}}",
    shell:
        "exec asymgrpo warm-start --spec {params.spec:q} --out {params.out:q} --work {params.work:q} > {log:q} 2>&1"


rule train:
    input:
        start=lambda wildcards: start_files(*start_of(wildcards)),
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
        RUN_ENVIRONMENT
    threads: study.settings["threads"]
    resources:
        **on_gpus(study.gpus, study.nodes),
    params:
        spec=lambda wildcards: as_json(study.spec(run_of(wildcards))),
        start=lambda wildcards: study.start_policy(*start_of(wildcards)).as_posix(),
        out=subpath(output.record, parent=True),
        work=f"{RESULTS}/work/{{backbone}}/{{method}}/seed-{{seed}}",
    shell:
        "exec asymgrpo train --spec {params.spec:q} --start {params.start:q} --problems {input.problems:q}"
        " --benchmarks {input.benchmarks:q}"
        " --out {params.out:q} --work {params.work:q} > {log:q} 2>&1"
