# Of a file of another scale Snakemake would say only that there is no rule for it.
for _word in sys.argv[1:]:
    _of = re.match(r"(?:results|figures)/([^/]+)/", _word)
    if _of and _of[1] != study.scale and Path("config/scales", f"{_of[1]}.yaml").is_file():
        raise WorkflowError(f"{_word} is of scale {_of[1]}, this call makes {study.scale}: add --config scale={_of[1]}")


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
