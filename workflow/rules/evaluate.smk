# Final evaluation in two halves: sample (GPU), then score (CPU). A better verifier rescores without sampling again. What is
# sampled so far lies in work/, because Snakemake deletes declared outputs before a job starts again.
SAMPLES = [f"{EVALUATION}/{name}.samples.parquet" for name in study.benchmarks]


rule sample:
    input:
        last=rules.train.output.last,
        best=rules.train.output.best,
        benchmarks=BENCHMARKS,
    output:
        SAMPLES,
        record=f"{EVALUATION}/sampling.yaml",
    log:
        f"{RESULTS}/logs/sample/{{backbone}}/{{method}}/seed-{{seed}}.log",
    conda:
        RUN_ENVIRONMENT
    threads: study.sampling_threads
    resources:
        **on_gpus(study.sampling_gpus),
    params:
        policies=lambda wildcards, input: f"last={input.last} best={input.best}",
        decodings=fixed(as_json(study.settings["evaluation"]["final"])),
        sampler=study.settings["sampler"],
        engine=fixed(as_json(SAMPLER_SETTINGS)),
        template=template_arguments,
        max_prompt_tokens=longest_prompt,
        max_tokens=response_tokens,
        out=subpath(output.record, parent=True),
        work=f"{RESULTS}/work/evaluation/{{backbone}}/{{method}}/seed-{{seed}}",
        device=study.settings["device"],
    shell:
        "asymgrpo sample --policies {params.policies} --benchmarks {input.benchmarks:q}"
        " --decodings {params.decodings:q} --sampler {params.sampler} --engine {params.engine:q}"
        " --template {params.template:q} --max-prompt-tokens {params.max_prompt_tokens}"
        " --max-tokens {params.max_tokens} --seed {wildcards.seed} --device {params.device} --threads {threads}"
        " --out {params.out:q} --work {params.work:q} > {log:q} 2>&1"


use rule sample as sample_base with:
    input:
        start=lambda wildcards: start_files(wildcards.backbone, int(wildcards.seed)),
        benchmarks=BENCHMARKS,
    output:
        [path.replace("{method}", BASE) for path in SAMPLES],
        record=f"{EVALUATION}/sampling.yaml".replace("{method}", BASE),
    log:
        f"{RESULTS}/logs/sample/{{backbone}}/{BASE}/seed-{{seed}}.log",
    params:
        policies=lambda wildcards: f"last={study.start_policy(wildcards.backbone, int(wildcards.seed)).as_posix()}",
        decodings=fixed(as_json(study.settings["evaluation"]["final"])),
        sampler=study.settings["sampler"],
        engine=fixed(as_json(SAMPLER_SETTINGS)),
        template=template_arguments,
        max_prompt_tokens=longest_prompt,
        max_tokens=response_tokens,
        out=subpath(output.record, parent=True),
        work=f"{RESULTS}/work/evaluation/{{backbone}}/{BASE}/seed-{{seed}}",
        device=study.settings["device"],


# Local where it is little: countdown's verifier takes milliseconds for a thousand answers. Answers to published problems
# are compared symbolically, minutes of many cores.
rule score:
    input:
        samples=SAMPLES,
        benchmarks=BENCHMARKS,
    output:
        [f"{EVALUATION}/{name}.scores.parquet" for name in study.benchmarks],
    log:
        f"{RESULTS}/logs/score/{{backbone}}/{{method}}/seed-{{seed}}.log",
    wildcard_constraints:
        method="|".join(map(re.escape, [*study.every_method, BASE])),
    localrule: not any(benchmark.fetched for benchmark in study.benchmarks.values())
    conda:
        ENVIRONMENT
    threads: study.settings["threads"]
    shell:
        "asymgrpo score --samples {input.samples:q} --benchmarks {input.benchmarks:q} --threads {threads} > {log:q} 2>&1"
