"""How each benchmark was evaluated, as far as it is stated: n problems x k samples."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asymgrpo.analysis.granularity import Pair
from asymgrpo.config import load
from asymgrpo.config.files import parse

Protocol = dict[str, Pair]
"""Name of a benchmark, as the audited file has it -> n x k."""

SCALE = "paper"
"""The scale that says how the paper evaluates."""
COLUMNS = ["benchmark", "problems", "samples"]
_PAIR = re.compile(r"(\d+)\s*[x×*]\s*(\d+)")


def chosen(file: Path | None, options: Iterable[str], root: Path) -> Protocol:
    """What is given: a file, and options that go before it; if nothing is, what config/ below ``root`` says."""
    given = from_options(options)
    if file is not None:
        return from_file(file) | given
    if given:
        return given
    if not (root / "config").is_dir():
        expected = "--benchmark NAME=NxK for each benchmark, or --protocol FILE"
        raise ValueError(
            f"no protocol is given, and {root.resolve()} has no config/ that says the paper's; expected {expected}"
        )
    return stated(root)


def from_options(options: Iterable[str]) -> Protocol:
    """Of texts such as ``MATH-500=500x5``; ValueError if one is not such a text or names a benchmark again."""
    found: Protocol = {}
    for option in options:
        name, separator, value = option.rpartition("=")
        name = name.strip()
        if not (name and separator):
            raise ValueError(f"--benchmark {option!r}: expected NAME=NxK, e.g. MATH-500=500x5")
        if name in found:
            raise ValueError(f"--benchmark {option!r}: {name} is given twice; expected each benchmark once")
        found[name] = _pair(value, f"--benchmark {option!r}")
    return found


def from_file(path: Path) -> Protocol:
    """Of a YAML file (``MATH-500: 500x5``, or ``{problems: 500, samples: 5}``) or a CSV file of :data:`COLUMNS`.

    Raises:
        ValueError: no such file, or an entry that is none; with file, place, and what was expected.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected the protocol as YAML or CSV")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); expected text in UTF-8") from None
    found = _of_csv(text, path) if path.suffix == ".csv" else _of_yaml(text, path)
    if not found:
        raise ValueError(f"{path}: names no benchmark; expected at least one, e.g. MATH-500: 500x5")
    return found


def tried(percent: float, samples: str | None) -> tuple[float, list[int] | None]:
    """Of the command line: the share of problems that may be missing, and the k to try (None: as usual).

    Raises:
        ValueError: not from 0 to below 100 percent; no range such as ``1-10``.
    """
    if not 0 <= percent < 100:
        raise ValueError(f"--missing: found {percent:g}; expected from 0 to below 100 percent of the problems")
    if samples is None:
        return percent / 100, None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", samples.strip())
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high:
        raise ValueError(f"--samples: found {samples!r}; expected the smallest and the largest k, e.g. 1-10")
    return percent / 100, list(range(low, high + 1))


def stated(root: Path) -> Protocol:
    """The paper's, from config/: its benchmarks, by the names in its tables, and their samples at the paper's scale."""
    study = load(root, {"scale": SCALE})
    decoding = study.artefact("table2").decodings[0]
    samples = study.settings["evaluation"]["final"][decoding]["samples"]
    return {
        benchmark.stands_for: Pair(
            int(benchmark.settings["problems"]), samples[name] if isinstance(samples, dict) else samples
        )
        for name, benchmark in study.benchmarks.items()
        if benchmark.stands_for
    }


def _of_yaml(text: str, path: Path) -> Protocol:
    document = parse(text, str(path))
    if not isinstance(document, dict):
        raise ValueError(f"{path}: expected benchmarks with their n x k, e.g. MATH-500: 500x5")
    return {name: _entry(value, f"{path}: {name}") for name, value in document.items()}


def _entry(value: Any, place: str) -> Pair:
    if isinstance(value, str):
        return _pair(value, place)
    if not isinstance(value, dict) or set(value) != {"problems", "samples"}:
        raise ValueError(f"{place}: found {value!r}; expected NxK, e.g. 500x5, or {{problems: 500, samples: 5}}")
    return _checked(value["problems"], value["samples"], place)


def _of_csv(text: str, path: Path) -> Protocol:
    rows = csv.reader(text.splitlines())
    header = [name.strip() for name in next(rows, [])]
    if header != COLUMNS:
        raise ValueError(f"{path}: line 1: found the columns {', '.join(header)}; expected {', '.join(COLUMNS)}")
    found: Protocol = {}
    for row in rows:
        place = f"{path}: line {rows.line_num}"
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(COLUMNS):
            raise ValueError(f"{place}: found {len(row)} cells; expected {len(COLUMNS)}")
        name, problems, samples = (cell.strip() for cell in row)
        if name in found:
            raise ValueError(f"{place}: {name} is given twice; expected each benchmark once")
        found[name] = _pair(f"{problems}x{samples}", place)
    return found


def _pair(text: str, place: str) -> Pair:
    match = _PAIR.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{place}: found {text.strip()!r}; expected problems x samples, e.g. 500x5")
    return _checked(int(match[1]), int(match[2]), place)


def _checked(problems: Any, samples: Any, place: str) -> Pair:
    try:
        return Pair(problems, samples)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
