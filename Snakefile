# The whole replication as one DAG. `snakemake` makes everything at the scale that config/config.yaml names;
# `snakemake fig2` makes one figure; `snakemake -n` says what would run.
from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from asymgrpo import progress
from asymgrpo.config import ConfigError, Run, load

min_version("9.0")


configfile: "config/config.yaml"


try:
    study = load(".", config)
except ConfigError as error:
    raise WorkflowError(f"Nothing was run. {error}") from None


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        [target for name in study.artefacts for target in targets(name)],


include: "workflow/rules/targets.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/tables.smk"


onstart:
    progress.Watcher(training_jobs(workflow.dag)).start()


onerror:
    print(
        "Some jobs failed; what is there is kept, and the same command continues. Their logs are named above.",
        file=sys.stderr,
    )
