# Do the backends train alike? The same method from the same start policy with verl and with the torch backend, compared with a
# tolerance that the scale states. Only where a scale has an `agreement` block; no part of `all`.
AGREEMENT = f"{RESULTS}/agreement/{{trainer}}/seed-{{seed}}"
AGREEMENT_START = (study.primary, study.start_seed(study.primary, 1))


rule train_agreement:
    input:
        start=start_files(*AGREEMENT_START),
        problems=rules.training_problems.output,
        benchmarks=BENCHMARKS,
    output:
        record=f"{AGREEMENT}/run.yaml",
        steps=f"{AGREEMENT}/steps.parquet",
        groups=f"{AGREEMENT}/groups.parquet",
        timings=f"{AGREEMENT}/timings.parquet",
        evaluations=f"{AGREEMENT}/evaluations.parquet",
        last=directory(f"{AGREEMENT}/policy/last"),
        best=directory(f"{AGREEMENT}/policy/best"),
    log:
        f"{RESULTS}/logs/agreement/{{trainer}}/seed-{{seed}}.log",
    wildcard_constraints:
        trainer="torch|verl",
    conda:
        RUN_ENVIRONMENT
    threads: lambda wildcards: 1 if wildcards.trainer == "torch" else study.settings["threads"]
    resources:
        **on_gpus(lambda wildcards: 0 if wildcards.trainer == "torch" else study.gpus, study.nodes),
    params:
        spec=lambda wildcards: as_json(study.agreement_spec(wildcards.trainer, int(wildcards.seed))),
        start=study.start_policy(*AGREEMENT_START).as_posix(),
        out=subpath(output.record, parent=True),
        work=f"{RESULTS}/work/agreement/{{trainer}}/seed-{{seed}}",
    shell:
        "exec asymgrpo train --spec {params.spec:q} --start {params.start:q} --problems {input.problems:q}"
        " --benchmarks {input.benchmarks:q}"
        " --out {params.out:q} --work {params.work:q} > {log:q} 2>&1"


rule agreement:
    input:
        runs=[f"{study.agreement_dir(trainer, seed)}/steps.parquet" for trainer, seed in study.agreement_runs()],
    output:
        multiext(f"figures/{study.scale}/agreement", ".pdf", ".svg", ".png", ".csv", ".md"),
    log:
        f"{RESULTS}/logs/figures/agreement.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        settings=fixed(as_json(study.agreement)),
        scale=study.scale,
    shell:
        "asymgrpo figure agreement --scale {params.scale} > {log:q} 2>&1"
