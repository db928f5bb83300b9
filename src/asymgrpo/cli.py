"""Command line: each stage of the DAG as one command, so that every job can be repeated by hand."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asymgrpo.config import ConfigError, Run, Study, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 1 and a line on standard error for bad input, 1 if the doctor found something."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        failed = chosen.run(chosen)
        sys.stdout.flush()
        return int(failed or 0)
    except BrokenPipeError:  # whoever reads has seen enough, as in `asymgrpo status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ConfigError, ValueError) as error:
        print(f"asymgrpo {chosen.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="asymgrpo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    c = command("plan", _plan, "Say what artefacts need: runs, hours, wall-clock time, disk; and what of it is there.")
    _study_options(c)
    c.add_argument("artefacts", nargs="*", help="fig1 ... table2; default: all")
    c.add_argument("--nodes", type=int, default=1, help="machines that runs are spread over; default: 1")
    form = c.add_mutually_exclusive_group()
    form.add_argument("--runs", action="store_true", help="list every run instead, and whether it is done")
    form.add_argument("--json", action="store_true", help="the same numbers for machines")

    c = command("status", _status, "Say of every run whether it is done, running, resumable, stale or missing.")
    _study_options(c)
    c.add_argument("artefacts", nargs="*", help="fig1 ... table2; default: all")
    form = c.add_mutually_exclusive_group()
    form.add_argument("--runs", action="store_true", help="a line for each, also for start policies and evaluations")
    form.add_argument("--json", action="store_true", help="the same for machines")

    c = command("show", _show, "Print a table, or what is known of one run.")
    _study_options(c)
    c.add_argument("what", help="claims, table1, table2, evaluation, reported, selection, audit; or run")
    c.add_argument("path", nargs="?", help="of a run: its directory, or backbone/method/seed-n")

    c = command("compare", _compare, "Say how runs differ: in settings, and in results, paired by seed.")
    c.add_argument("runs", nargs="+", metavar="RUN", help="directories of runs, or of methods with all seeds")

    c = command("audit", _audit, "Check reported accuracies: can they be shares of n problems x k samples?")
    c.add_argument("file", type=Path, help="CSV: a row per method, a column per benchmark; or a row per accuracy")
    given = c.add_argument_group("how it was evaluated", "default: as the paper says, from config/ in the repository")
    given.add_argument(
        "--benchmark", action="append", default=[], metavar="NAME=NxK", help="e.g. MATH-500=500x5; may be repeated"
    )
    given.add_argument("--protocol", type=Path, metavar="FILE", help="the same for all benchmarks, as YAML or CSV")
    given.add_argument("--root", type=Path, default=Path(), help="the repository")
    given = c.add_argument_group("what the file does not say itself")
    given.add_argument("--block", metavar="COLUMN", help="equal ones were evaluated alike; default: backbone")
    given.add_argument("--average", metavar="NAME", help="of the average; default: Avg, Average or Mean")
    given.add_argument("--ignore", action="append", default=[], metavar="COLUMN", help="not read; may be repeated")
    given.add_argument("--decimals", type=int, metavar="D", help="were printed; default: those of each number")
    given.add_argument("--fractions", action="store_true", help="accuracies are from 0 to 1, not percent")
    given = c.add_argument_group("which other n x k are tried")
    given.add_argument("--missing", type=float, default=5.0, metavar="PERCENT", help="of the problems; default: 5")
    given.add_argument("--samples", metavar="K-K", help="smallest and largest k; default: 1-10")
    form = c.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same for machines")
    form.add_argument("--csv", action="store_true", help="a row for each cell, block and average")

    c = command("doctor", _doctor, "Check all that training needs; exit status 1 if something is not ok.")
    _study_options(c)
    text = "of Snakemake, e.g. slurm: checks the cluster, too; of several a later one lies over those before"
    c.add_argument("--profile", action="append", help=text)
    c.add_argument("--train", action="store_true", help="also train one step of every backbone, for real")

    c = command("problems", _problems, "Write training problems, or a benchmark's problems.")
    c.add_argument("--settings", type=json.loads, required=True, metavar="JSON", help="how to make them")
    c.add_argument("--kind", choices=["train", "benchmark"], required=True)
    c.add_argument("--record", type=Path, help="of the fetch, for problems from a repository: DIRECTORY.yaml")
    c.add_argument("--out", type=Path, required=True, help="parquet file")

    c = command("overlap", _overlap, "Count the problems of benchmarks that are trained on.")
    c.add_argument("--problems", type=Path, required=True, help="parquet of training problems")
    c.add_argument("--benchmarks", type=Path, nargs="+", required=True, help="parquet files, named as the benchmarks")
    c.add_argument("--out", type=Path, required=True, help="csv file")

    c = command("fetch", _fetch, "Fetch data and models from the hub, or check those that are in place.")
    _study_options(c)
    c.add_argument("names", nargs="*", help="benchmarks, datasets and backbones; default: all that the scale uses")

    c = command("warm-start", _warm_start, "Train the start policy of the local scale.")
    c.add_argument("--spec", type=json.loads, required=True, metavar="JSON", help="warm-start spec")
    c.add_argument("--out", type=Path, required=True, help="directory for policy/ and run.yaml")
    c.add_argument("--work", type=Path, required=True, help="directory to resume from")

    c = command("train", _train, "Train one run; continues where it was killed.")
    c.add_argument("--spec", type=json.loads, required=True, metavar="JSON", help="run spec")
    c.add_argument("--start", type=Path, required=True, help="Hugging Face directory of the start policy")
    c.add_argument("--problems", type=Path, required=True, help="parquet of training problems")
    c.add_argument("--benchmarks", type=Path, nargs="+", required=True, help="parquet files, named as the benchmarks")
    c.add_argument("--out", type=Path, required=True, help="run directory")
    c.add_argument("--work", type=Path, required=True, help="directory to resume from")
    c.add_argument("--root", type=Path, default=Path(), help="whose config/ tells where each setting comes from")

    c = command("sample", _sample, "Sample responses to benchmarks from saved policies; continues where it was killed.")
    c.add_argument("--policies", nargs="+", required=True, metavar="NAME=DIR", help="last=DIR and best=DIR")
    c.add_argument("--benchmarks", type=Path, nargs="+", required=True, help="parquet files, named as the benchmarks")
    c.add_argument("--decodings", type=json.loads, required=True, metavar="JSON", help="evaluation.final of the scale")
    c.add_argument("--sampler", choices=["torch", "vllm"], default="torch", help="the engine")
    c.add_argument("--engine", type=json.loads, default={}, metavar="JSON", help="arguments of vLLM's LLM")
    c.add_argument("--template", type=json.loads, default={}, metavar="JSON", help="arguments of the chat template")
    c.add_argument("--max-prompt-tokens", type=int, required=True, help="longer prompts are used too, and listed")
    c.add_argument("--max-tokens", type=int, required=True, help="of a response")
    c.add_argument("--seed", type=int, required=True)
    c.add_argument("--out", type=Path, required=True, help="directory of <benchmark>.samples.parquet")
    c.add_argument("--work", type=Path, required=True, help="directory to resume from")
    c.add_argument("--device", default="cpu", help="cpu, or auto: a GPU if there is one")
    c.add_argument("--threads", type=int, default=1)

    c = command("score", _score, "Score sampled responses.")
    c.add_argument("--samples", type=Path, nargs="+", required=True, help="<benchmark>.samples.parquet files")
    c.add_argument("--benchmarks", type=Path, nargs="+", required=True, help="parquet files, in the same order")
    c.add_argument("--threads", type=int, default=1, help="processes that compare mathematical answers")

    c = command("ablation", _ablation, "Make the page of one method beside GRPO and REINFORCE from the runs' files.")
    _study_options(c)
    c.add_argument("method", help="any of config/methods.yaml")

    c = command("reference", _reference, "Keep what a finished study came to, without samples and policies.")
    _study_options(c)
    c.add_argument("--out", type=Path, help="directory; default: results/reference/SCALE")
    c.add_argument("--made-by", required=True, metavar="COMMAND", help="how the study was made, for the manifest")

    c = command("report", _report, "Make one page of everything that is there of a scale; it opens without a network.")
    _study_options(c)
    c.add_argument("--out", type=Path, help="html file; default: results/<scale>/report.html")

    for kind in ("figure", "table"):
        c = command(kind, _draw, f"Make a {kind} from the runs' files.")
        _study_options(c)
        c.add_argument("name")
    return parser


def _study_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", help="a file in config/scales/; default: as config/config.yaml says")
    parser.add_argument("--seeds", help="e.g. 1,2; default: the scale's")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository")


def _study(chosen: argparse.Namespace) -> Study:
    return load(chosen.root, {"scale": chosen.scale, "seeds": chosen.seeds})


def _by_name(paths: Sequence[Path]) -> dict[str, Path]:
    return {path.stem: path for path in paths}


def _plan(chosen: argparse.Namespace) -> None:
    from asymgrpo import plan

    study = _study(chosen)
    if chosen.runs:
        runs = study.runs(*chosen.artefacts)
        for run in runs:
            print(f"{'done   ' if plan.is_done(study, run) else 'missing'}  {study.runs_dir(run)}")
        done = sum(plan.is_done(study, run) for run in runs)
        print(f"{len(runs)} runs at scale {study.scale}, {done} of them done")
        return
    made = plan.plan(study, chosen.artefacts, chosen.nodes)
    print(json.dumps(plan.as_json(made), indent=2) if chosen.json else plan.as_text(study, made))


def _status(chosen: argparse.Namespace) -> None:
    from asymgrpo import status, terminal

    found = status.status(_study(chosen), chosen.artefacts)
    if chosen.json:
        print(json.dumps(status.as_json(found), indent=2))
        return
    print((status.as_list if chosen.runs else status.as_text)(found, terminal.width()))


def _show(chosen: argparse.Namespace) -> None:
    from asymgrpo import show, terminal

    print(show.show(_study(chosen), chosen.what, chosen.path, terminal.width()))


def _compare(chosen: argparse.Namespace) -> None:
    from asymgrpo import compare, terminal

    print(compare.as_text(compare.compare(chosen.runs), terminal.width()))


def _audit(chosen: argparse.Namespace) -> None:
    from asymgrpo import audit, terminal
    from asymgrpo.audit import text
    from asymgrpo.figures import csv_bytes

    protocol = audit.chosen(chosen.protocol, chosen.benchmark, chosen.root)
    layout = audit.Layout(chosen.block, chosen.average, chosen.ignore, chosen.decimals, chosen.fractions)
    missing, samples = audit.tried(chosen.missing, chosen.samples)
    found = audit.audit(audit.read(chosen.file, protocol, layout), protocol, missing, samples)
    if chosen.csv:
        print(csv_bytes(found.data).decode(), end="")
        return
    print(text.as_json(found) if chosen.json else text.as_text(found, str(chosen.file), terminal.width()))


def _doctor(chosen: argparse.Namespace) -> bool:
    from asymgrpo import doctor
    from asymgrpo.doctor.profile import Profile

    profile = Profile.find(*chosen.profile) if chosen.profile else None
    given = {"scale": chosen.scale, "seeds": chosen.seeds}
    said = profile.config if profile else {}
    study = load(chosen.root, said | {key: value for key, value in given.items() if value is not None})
    return doctor.report(doctor.checks(study, profile, chosen.train), chosen.train)


def _ablation(chosen: argparse.Namespace) -> None:
    from asymgrpo.tables import ablation

    for path in ablation.make(_study(chosen), chosen.method):
        print(path)


def _reference(chosen: argparse.Namespace) -> None:
    from asymgrpo.reference import save

    study = _study(chosen)
    out = chosen.out or Path("results/reference", study.scale)
    save(study, out, chosen.made_by)
    print(out.as_posix())


def _problems(chosen: argparse.Namespace) -> None:
    from asymgrpo.tasks import prepare

    if "repository" in chosen.settings:
        if chosen.record is None:
            raise ValueError("--record: is missing; expected the record that `asymgrpo fetch` has written")
        prepare.write_fetched(chosen.settings, chosen.record, chosen.out)
        return
    write = prepare.write_training_problems if chosen.kind == "train" else prepare.write_benchmark
    write(chosen.settings, chosen.out)


def _overlap(chosen: argparse.Namespace) -> None:
    from asymgrpo.tasks.overlap import overlap, write_overlap

    found = overlap(chosen.problems, _by_name(chosen.benchmarks))
    write_overlap(found, chosen.out)
    for row in found:
        print(f"{row.benchmark}: {row.trained_on} of {row.problems} problems are trained on")


def _fetch(chosen: argparse.Namespace) -> None:
    from asymgrpo.hub import fetch

    for record in fetch(_study(chosen), chosen.names):
        print(record, flush=True)


def _warm_start(chosen: argparse.Namespace) -> None:
    from asymgrpo.training.spec import warm_start_spec
    from asymgrpo.training.warm_start import warm_start

    warm_start(warm_start_spec(chosen.spec), chosen.out, chosen.work)


def _train(chosen: argparse.Namespace) -> None:
    from asymgrpo.training import backend
    from asymgrpo.training.spec import run_spec

    spec = run_spec(chosen.spec)
    backend(spec.backend)(
        spec,
        chosen.start,
        chosen.problems,
        _by_name(chosen.benchmarks),
        chosen.out,
        chosen.work,
        _provenance(chosen.root, spec.scale, Run(spec.backbone, spec.method, spec.seed)),
    )


def _provenance(root: Path, scale: str, run: Run) -> Mapping[str, Any]:
    """Where each setting of a run comes from, as config/ says now; nothing if it does not know the run.

    Read here and not passed in with the spec: to learn that a value was stated after all must not retrain anything.
    """
    try:
        return load(root, {"scale": scale}).provenance(run)
    except ConfigError as error:
        print(f"run.yaml will not say where settings come from: {error}", flush=True)
        return {}


def _sample(chosen: argparse.Namespace) -> None:
    from asymgrpo.evaluation.engine import Settings, decodings_from
    from asymgrpo.evaluation.sample import sample_benchmarks

    sample_benchmarks(
        {name: Path(path) for name, _, path in (text.partition("=") for text in chosen.policies)},
        _by_name(chosen.benchmarks),
        decodings_from(chosen.decodings),
        Settings(
            sampler=chosen.sampler,
            max_tokens=chosen.max_tokens,
            seed=chosen.seed,
            max_prompt_tokens=chosen.max_prompt_tokens,
            template=chosen.template,
            options=chosen.engine,
            device=chosen.device,
            threads=chosen.threads,
        ),
        chosen.out,
        chosen.work,
    )


def _score(chosen: argparse.Namespace) -> None:
    from asymgrpo.evaluation.score import score_samples

    for samples, benchmark in zip(chosen.samples, chosen.benchmarks, strict=True):
        name = samples.name.removesuffix(".samples.parquet")
        if name != benchmark.stem:
            raise ValueError(f"{samples}: expected the samples of {benchmark.stem}")
        score_samples(samples, benchmark, samples.with_name(f"{name}.scores.parquet"), chosen.threads)


def _report(chosen: argparse.Namespace) -> None:
    from asymgrpo import report

    print(report.make(_study(chosen), chosen.out))


def _draw(chosen: argparse.Namespace) -> None:
    from asymgrpo import figures, tables

    make = figures.make if chosen.command == "figure" else tables.make
    for path in make(chosen.name, _study(chosen)):
        print(path)
