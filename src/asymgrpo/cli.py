"""Command line: each stage of the DAG as one command, so that every job can be repeated by hand."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asymgrpo.config import ConfigError, Run, Study, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 1 and a line on standard error for bad input."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        chosen.run(chosen)
    except (ConfigError, ValueError) as error:
        print(f"asymgrpo {chosen.command}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="asymgrpo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    c = command("plan", _plan, "List the runs that artefacts need, and which of them are there.")
    _study_options(c)
    c.add_argument("artefacts", nargs="*", help="fig1 ... table2; default: all")

    c = command("problems", _problems, "Write training problems, or a benchmark's problems.")
    c.add_argument("--settings", type=json.loads, required=True, metavar="JSON", help="how to make them")
    c.add_argument("--kind", choices=["train", "benchmark"], required=True)
    c.add_argument("--out", type=Path, required=True, help="parquet file")

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

    c = command("sample", _sample, "Sample responses to benchmarks from saved policies.")
    c.add_argument("--policies", nargs="+", required=True, metavar="NAME=DIR", help="last=DIR and best=DIR")
    c.add_argument("--benchmarks", type=Path, nargs="+", required=True, help="parquet files, named as the benchmarks")
    c.add_argument("--decodings", type=json.loads, required=True, metavar="JSON", help="evaluation.final of the scale")
    c.add_argument("--max-tokens", type=int, required=True)
    c.add_argument("--seed", type=int, required=True)
    c.add_argument("--out", type=Path, required=True, help="directory of <benchmark>.samples.parquet")
    c.add_argument("--device", default="cpu", help="cpu, or auto: a GPU if there is one")
    c.add_argument("--threads", type=int, default=1)

    c = command("score", _score, "Score sampled responses.")
    c.add_argument("--samples", type=Path, nargs="+", required=True, help="<benchmark>.samples.parquet files")
    c.add_argument("--benchmarks", type=Path, nargs="+", required=True, help="parquet files, in the same order")

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
    study = _study(chosen)
    runs = study.runs(*chosen.artefacts)
    done = {run for run in runs if (study.runs_dir(run) / "run.yaml").exists()}
    for run in runs:
        print(f"{'done   ' if run in done else 'missing'}  {study.runs_dir(run)}")
    steps = study.settings["training"]["steps"]
    print(f"{len(runs)} runs of {steps} steps at scale {study.scale}, {len(done)} of them done")


def _problems(chosen: argparse.Namespace) -> None:
    from asymgrpo.tasks import prepare

    write = prepare.write_training_problems if chosen.kind == "train" else prepare.write_benchmark
    write(chosen.settings, chosen.out)


def _warm_start(chosen: argparse.Namespace) -> None:
    from asymgrpo.training.spec import warm_start_spec
    from asymgrpo.training.warm_start import warm_start

    warm_start(warm_start_spec(chosen.spec), chosen.out, chosen.work)


def _train(chosen: argparse.Namespace) -> None:
    from asymgrpo.training.local import train
    from asymgrpo.training.spec import run_spec

    spec = run_spec(chosen.spec)
    train(
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
    from asymgrpo.evaluation.sample import decodings_from, sample_benchmarks

    sample_benchmarks(
        {name: Path(path) for name, _, path in (text.partition("=") for text in chosen.policies)},
        _by_name(chosen.benchmarks),
        decodings_from(chosen.decodings),
        chosen.max_tokens,
        chosen.seed,
        chosen.out,
        chosen.device,
        chosen.threads,
    )


def _score(chosen: argparse.Namespace) -> None:
    from asymgrpo.evaluation.score import score_samples

    for samples, benchmark in zip(chosen.samples, chosen.benchmarks, strict=True):
        name = samples.name.removesuffix(".samples.parquet")
        if name != benchmark.stem:
            raise ValueError(f"{samples}: expected the samples of {benchmark.stem}")
        score_samples(samples, benchmark, samples.with_name(f"{name}.scores.parquet"))


def _draw(chosen: argparse.Namespace) -> None:
    from asymgrpo import figures, tables

    make = figures.make if chosen.command == "figure" else tables.make
    for path in make(chosen.name, _study(chosen)):
        print(path)
