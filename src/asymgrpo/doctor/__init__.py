"""Before hours of GPUs are spent: is everything there that training needs, and does a training step fit?

A check looks at one thing and says what it found, and if that is not enough, how to mend it. None of them changes
anything; :mod:`asymgrpo.doctor.trial` trains a step, in a directory of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asymgrpo.config import Study
    from asymgrpo.doctor.profile import Profile


class Check(NamedTuple):
    """What a check has found."""

    name: str
    found: str
    mend: str = ""
    """What to do; empty if it is ok."""


def checks(study: Study, profile: Profile | None = None, train: bool = False) -> Iterator[Check]:
    """Every check that applies, one after the other.

    Args:
        study: what is to be run.
        profile: of Snakemake, if it is to be run with one; with the executor slurm the cluster is checked, and this
            machine's GPUs are not.
        train: also train a step of every backbone.
    """
    from asymgrpo.doctor import cluster, machine, trial

    slurm = profile is not None and profile.executor == "slurm"
    yield from machine.environment(study)
    yield from machine.inputs(study)
    if profile is not None:
        yield from cluster.checks(study, profile)
    if not slurm:
        yield from machine.hardware(study)
    yield from machine.disk(study, profile.jobs if profile is not None and slurm else 1)
    if train:
        yield from trial.checks(study, profile if slurm else None)


def report(found: Iterable[Check], trained: bool = True) -> bool:
    """Print a line for each, and how to mend what is not ok; whether there is any such. `trained`: a step was, too."""
    failed = 0
    for check in found:
        failed += bool(check.mend)
        print(f"{'not ok' if check.mend else 'ok':<8}{check.name:<16}{check.found}", flush=True)
        if check.mend:
            print(f"{'':<8}{'':<16}-> {check.mend}", flush=True)
    untried = "" if trained else "; no training step was tried: --train"
    print((f"{failed} not ok" if failed else "all ok") + untried, flush=True)
    return failed > 0
