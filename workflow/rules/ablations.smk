# The page of one method beside GRPO and REINFORCE, on the primary backbone: asked for by its path, so no part of `all`. Any
# method of methods.yaml, also one that no figure shows or that the scale does not run otherwise:
#
#     snakemake results/local/ablations/dr-grpo.md
#
# Local: seconds of one core.


rule ablation:
    input:
        runs=ablation_files,
        code=["src/asymgrpo/tables/ablation.py", "src/asymgrpo/figures/ablation.py"],
    output:
        multiext(f"{RESULTS}/ablations/{{method}}", ".md", ".pdf", ".svg", ".png", ".csv", ".table.csv"),
    log:
        f"{RESULTS}/logs/ablations/{{method}}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        shown=ablation_shown,
        scale=study.scale,
        seeds=",".join(map(str, study.seeds)),
    shell:
        "asymgrpo ablation {wildcards.method} --scale {params.scale} --seeds {params.seeds} > {log:q} 2>&1"
