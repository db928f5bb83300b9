# Named targets: `snakemake fig2`, and `snakemake warm_starts` for the start policies that are trained.
for _artefact in study.every_artefact:

    rule:
        name:
            _artefact
        input:
            targets(_artefact),


rule warm_starts:
    input:
        [f"{study.warm_start_dir(*start)}/policy" for start in study.warm_starts()],
