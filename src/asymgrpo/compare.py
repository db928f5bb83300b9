"""How runs differ: in settings, and in what they have come to, paired by seed. Reads the runs' own files only."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from asymgrpo import records
from asymgrpo.analysis import curves, paired
from asymgrpo.analysis.intervals import band_name
from asymgrpo.figures import CURVE_DECODING
from asymgrpo.show import read_record
from asymgrpo.status import flat
from asymgrpo.tables.render import Estimate
from asymgrpo.terminal import paragraph, table, words

IDENTITY = ("seed", "warm_start_seed")
"""What differs between the runs of one group."""
NAMES = ("scale", "backbone", "method")
DIGITS = {"reward": 4, "entropy": 4, "response_length": 2, "accuracy": 2}


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only."""

    name: str
    settings: dict[str, Any]
    """By dotted keys, without seeds and names."""
    places: dict[int, Path]
    """Seed -> directory."""


@dataclass(frozen=True)
class Comparison:
    """Groups, and what sets them apart."""

    groups: list[Group]
    settings: list[list[str]]
    """Key, then the value in each group."""
    last: int
    """The step that was compared: the last one that all have."""
    values: pd.DataFrame
    """From :func:`asymgrpo.analysis.paired.at_end`."""


def compare(patterns: Sequence[str]) -> Comparison:
    """Compare two or more runs.

    Args:
        patterns: directories of runs, directories above some (of a method: all its seeds), or patterns of these.

    Raises:
        ValueError: fewer than two runs; a directory is none of a run; a file is missing or no run's.
    """
    places = _places(patterns)
    if len(places) < 2:
        raise ValueError(f"{' '.join(patterns)}: found {len(places)} run, expected at least two")
    groups = _groups(places)
    keys = dict.fromkeys(key for group in groups for key in group.settings)
    settings = [
        [key, *(words(group.settings[key]) if key in group.settings else "–" for group in groups)]
        for key in keys
        if len({repr(group.settings.get(key, KeyError)) for group in groups}) > 1
    ]
    steps = pd.concat([_frame(group, "steps.parquet", records.STEPS) for group in groups], ignore_index=True)
    found = pd.concat(
        [_frame(group, "evaluations.parquet", records.EVALUATIONS) for group in groups], ignore_index=True
    )
    named = found.rename(columns={"group": "method"}).assign(backbone="")
    accuracy = curves.mean_accuracy(named, CURVE_DECODING).rename(columns={"method": "group"})
    last = int(steps.groupby(["group", "seed"])["step"].max().min())
    return Comparison(groups, settings, last, paired.at_end(steps, accuracy, last))


def _places(patterns: Sequence[str]) -> list[Path]:
    """Directories of runs, each once."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        # not Path.glob, which knows no absolute patterns
        matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
        places = [place for match in matches for place in _below(Path(match))]
        if not places:
            raise ValueError(f"{pattern}: no run is there; expected a directory with run.yaml, or one above such")
        found |= dict.fromkeys(places)
    return list(found)


def _below(place: Path) -> list[Path]:
    if (place / "run.yaml").is_file():
        return [place]
    return sorted((file.parent for file in place.glob("seed-*/run.yaml")), key=_seed_of)


def _seed_of(place: Path) -> tuple[int, str]:
    digits = place.name.removeprefix("seed-")
    return (int(digits) if digits.isdecimal() else 0, place.name)


def _groups(places: Sequence[Path]) -> list[Group]:
    """Runs by all but their seeds; one that would have a seed twice becomes a group of its own."""
    groups: dict[str, Group] = {}
    for place in places:
        spec = read_record(place / "run.yaml").get("spec")
        if not isinstance(spec, dict) or not {*NAMES, *IDENTITY} <= set(spec):
            raise ValueError(f"{place / 'run.yaml'}: is no record of a run; expected its spec")
        settings = flat({key: value for key, value in spec.items() if key not in (*NAMES, *IDENTITY)})
        identity = repr([spec[name] for name in NAMES] + sorted(settings.items(), key=str))
        while identity in groups and spec["seed"] in groups[identity].places:
            identity += "'"
        group = groups.setdefault(identity, Group(_name(spec), settings, {}))
        group.places[spec["seed"]] = place
    if len(groups) == 1:  # only seeds differ: each run for itself
        [whole] = groups.values()
        return [Group(f"seed-{seed}", whole.settings, {seed: place}) for seed, place in whole.places.items()]
    return _told_apart(list(groups.values()))


def _name(spec: Mapping[str, Any]) -> str:
    return "/".join(str(spec[name]) for name in NAMES)


def _told_apart(groups: list[Group]) -> list[Group]:
    """Short names: without what all have in common, and numbered if they are the same."""
    parts = [group.name.split("/") for group in groups]
    kept = [position for position in range(len(NAMES)) if len({part[position] for part in parts}) > 1] or [2]
    names = ["/".join(part[position] for position in kept) for part in parts]
    counted = [f"{name} ({names[: index + 1].count(name)})" if names.count(name) > 1 else name
               for index, name in enumerate(names)]  # fmt: skip
    return [Group(name, group.settings, group.places) for name, group in zip(counted, groups, strict=True)]


def _frame(group: Group, file: str, schema: Any) -> pd.DataFrame:
    parts = []
    for seed, place in group.places.items():
        part = records.read(place / file, schema).to_pandas()
        if part.empty:
            raise ValueError(f"{place / file}: holds no rows")
        parts.append(part.assign(group=group.name, seed=seed))
    return pd.concat(parts, ignore_index=True)


def as_text(found: Comparison, width: int | None = None) -> str:
    """Runs, settings that differ, and results."""
    first, *others = found.groups
    rows = [[group.name, f"seed{'s' * (len(group.places) > 1)} {_listed(group.places)}",
             str(next(iter(group.places.values())).parent)] for group in found.groups]  # fmt: skip
    parts = [table(rows, width, left=3, wrap=[2])]
    names = [group.name for group in found.groups]
    if found.settings:
        parts.append(table([["setting", *names], *found.settings], width, left=len(names) + 1))
    else:
        parts.append("No setting differs.")
    for other in others:
        parts.append(table(_against(found, first, other), width))
    return "\n\n".join([*parts, "\n".join(paragraph(note, width) for note in _notes(found))])


def _against(found: Comparison, first: Group, other: Group) -> list[list[str]]:
    """A line per quantity: both, their difference with its interval, and that of each seed."""
    common = sorted(set(first.places) & set(other.places))
    apart_name = f"{first.name} − {other.name}"
    title_of = apart_name if len(apart_name) < 30 else "first − second"
    rows = [["", first.name, other.name, title_of, *(f"seed {seed}" for seed in common)]]
    for quantity, title in paired.QUANTITIES.items():
        digits = DIGITS[quantity]
        means = [found.values.loc[group.name, quantity].mean() for group in (first, other)]
        apart = paired.difference(found.values, quantity, first.name, other.name)
        if common:
            difference = Estimate(apart["mean"], apart["low"], apart["high"], digits).text()
        else:
            difference = f"{means[0] - means[1]:.{digits}f}"
        by_seed = [f"{apart[f'seed_{seed}']:.{digits}f}" for seed in common]
        rows.append([title, *(f"{mean:.{digits}f}" for mean in means), difference, *by_seed])
    return rows


def _notes(found: Comparison) -> list[str]:
    first, *others = found.groups
    counts = {len(set(first.places) & set(other.places)) for other in others}
    lengths = {group.settings.get("steps") for group in found.groups}
    notes = [
        f"Means over the last {paired.SHARE:.0%} of the steps up to step {found.last}"
        + (", the last one that all have; " if len(lengths) > 1 else "; ")
        + f"test accuracy: {CURVE_DECODING}, last evaluation until then, unweighted mean of the benchmarks."
    ]
    if 0 in counts:
        notes.append("Without a seed in common nothing is paired: such a difference has the noise of two seeds in it.")
    for count in sorted(counts - {0}):
        notes.append(f"Differences are paired by seed, {count} of them; {band_name(count)}." if count > 1 else
                     "Differences are of one seed: no interval.")  # fmt: skip
    return notes


def _listed(seeds: Mapping[int, Path]) -> str:
    return ", ".join(map(str, sorted(seeds)))
