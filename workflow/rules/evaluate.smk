# Final evaluation in two halves: sample (GPU), then score (CPU). A better verifier rescores without sampling again.


rule sample:
    input:
        last=rules.train.output.last,
        best=rules.train.output.best,
        benchmarks=BENCHMARKS,
    output:
        [f"{EVALUATION}/{name}.samples.parquet" for name in study.benchmarks],
    log:
        f"{RESULTS}/logs/sample/{{backbone}}/{{method}}/seed-{{seed}}.log",
    conda:
        ENVIRONMENT
    threads: study.settings["threads"]
    params:
        policies=lambda wildcards, input: f"last={input.last} best={input.best}",
        decodings=fixed(as_json(study.settings["evaluation"]["final"])),
        max_tokens=response_tokens,
        out=subpath(output[0], parent=True),
        device=study.settings["device"],
    shell:
        "asymgrpo sample --policies {params.policies} --benchmarks {input.benchmarks:q}"
        " --decodings {params.decodings:q} --max-tokens {params.max_tokens} --seed {wildcards.seed}"
        " --device {params.device} --threads {threads} --out {params.out:q} > {log:q} 2>&1"


use rule sample as sample_base with:
    input:
        last=rules.warm_start.output.policy,
        benchmarks=BENCHMARKS,
    output:
        [f"{EVALUATION}/{name}.samples.parquet".replace("{method}", BASE) for name in study.benchmarks],
    log:
        f"{RESULTS}/logs/sample/{{backbone}}/{BASE}/seed-{{seed}}.log",
    params:
        policies=lambda wildcards, input: f"last={input.last}",
        decodings=fixed(as_json(study.settings["evaluation"]["final"])),
        max_tokens=response_tokens,
        out=subpath(output[0], parent=True),
        device=study.settings["device"],


rule score:
    input:
        samples=[f"{EVALUATION}/{name}.samples.parquet" for name in study.benchmarks],
        benchmarks=BENCHMARKS,
    output:
        [f"{EVALUATION}/{name}.scores.parquet" for name in study.benchmarks],
    log:
        f"{RESULTS}/logs/score/{{backbone}}/{{method}}/seed-{{seed}}.log",
    wildcard_constraints:
        method="|".join(map(re.escape, [*study.methods, BASE])),
    conda:
        ENVIRONMENT
    shell:
        "asymgrpo score --samples {input.samples:q} --benchmarks {input.benchmarks:q} > {log:q} 2>&1"
