# The whole replication as one DAG. `snakemake` makes everything at the scale that config/config.yaml names;
# `snakemake fig2` makes one figure; `snakemake -n` says what would run.
import gc

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from asymgrpo import progress, slurm
from asymgrpo.config import ConfigError, Run, load

min_version("9.0")
# A DAG has no garbage: of planning thousands of jobs, looking for some takes a tenth of the time.
gc.freeze()
gc.set_threshold(1_000_000, 50, 1000)


configfile: "config/config.yaml"


try:
    study = load(".", config)
except ConfigError as error:
    raise WorkflowError(f"Nothing was run. {error}") from None

if workflow.remote_exec:
    # on a compute node, which has no internet: what is needed has been fetched, and nothing may wait for the hub
    os.environ.update(HF_HUB_OFFLINE="1")


# Used with --sdm apptainer only (envs/README.md). The environments of verl have all that the others have.
container: f"envs/{study.environment}.sif"


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        [target for name in study.artefacts for target in targets(name)],
        study.overlap_file().as_posix() if study.runs() else [],
        study.report_file().as_posix(),


include: "workflow/rules/targets.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/ablations.smk"
include: "workflow/rules/report.smk"


if study.agreement:

    include: "workflow/rules/agreement.smk"


onstart:
    if workflow.executor_plugin.name == "slurm":
        slurm.mend_plugin()
        asked = slurm.requests(workflow.dag.needrun_jobs())
        if refused := slurm.refusals(asked, workflow.executor_settings, study.scale):
            raise WorkflowError("Nothing was submitted.", *refused)
    progress.Watcher(training_jobs(workflow.dag)).start()


onerror:
    scheduler = workflow.scheduler
    print(
        slurm.report(scheduler.failed, len(scheduler.remaining_jobs), workflow.executor_settings), file=sys.stderr
    )
