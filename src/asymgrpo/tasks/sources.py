"""Problems from files that others have published: each set's own columns become the rows that everything here reads.

Nothing is left out: a problem without question or answer is an error that names it, and so is a number of problems
other than the one in config/benchmarks.yaml. A *record* is what :mod:`asymgrpo.hub` has written beside fetched files.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from asymgrpo.hub.files import sha256
from asymgrpo.tasks.problems import as_messages

Row = Mapping[str, Any]


class Answer(NamedTuple):
    """What a source says of a problem's answer; an empty ground truth: nothing."""

    ground_truth: str
    answer_type: str
    unit: str = ""
    tolerance: float | None = None
    remark: str = ""
    """What had to be decided about it; empty as a rule."""


@dataclass
class Problem:
    """One row of a source, read."""

    identity: str
    question: str
    answer: Answer
    file: str
    checksum: str


def fetched_problems(settings: Mapping[str, Any], record: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of :data:`asymgrpo.records.BENCHMARK`, and what their file says of itself.

    Args:
        settings: of a fetched set, :attr:`asymgrpo.config.Benchmark.settings`.
        record: the record of its fetch, ``<directory>.yaml``; the files are in that directory.

    Raises:
        ValueError: naming the file or the problem that is not as it should be.
    """
    name, fetched = record.stem, read_record(record, settings)
    problems = [
        problem for file in sorted(settings["content"]["files"]) for problem in _read(file, settings, record, fetched)
    ]
    if len(problems) != settings["problems"]:
        places = f"{len(problems)} are in {record.with_suffix('')}"
        raise ValueError(f"{name}: {settings['problems']} problems were expected, {places}")
    twice = [identity for identity, count in Counter(problem.identity for problem in problems).items() if count > 1]
    if twice:
        raise ValueError(f"{name}: {len(twice)} identifiers are used more than once, the first is {twice[0]!r}")
    corrected = _correct(problems, settings.get("corrections", ()), name)
    missing = [problem.identity for problem in problems if not problem.answer.ground_truth]
    if missing:
        shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise ValueError(f"{name}: {len(missing)} without an answer: {shown}; expected an answer, or a correction")
    used = spread(len(problems), settings.get("max_problems"))
    about = {
        "repository": settings["repository"],
        "revision": fetched["revision"],
        "licence": settings["licence"],
        "files": {file: fetched["files"][file] for file in settings["content"]["files"]},
        "problems": len(problems),
        "used": len(used),
        "prompt": settings["prompt"],
        "corrected": corrected,
        "remarks": {problem.identity: problem.answer.remark for problem in problems if problem.answer.remark},
    }
    return [_row(problems[i], settings, fetched["revision"]) for i in used], about


def _read(file: str, settings: Mapping[str, Any], record: Path, fetched: Mapping[str, Any]) -> Iterator[Problem]:
    content, path = settings["content"], record.with_suffix("") / file
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file: fetch again")
    checksum = sha256(path)
    if checksum != fetched["files"][file]:
        raise ValueError(f"{path}: its sha256 is {checksum}, in {record} it is {fetched['files'][file]}: fetch again")
    for number, row in enumerate(read_rows(path)):
        identity = _identity(row, content["columns"], file, number, path)
        where = f"{record.stem}, problem {identity}"
        answer = READERS[content["reader"]](row, content, where)
        yield Problem(identity, _question(row, content["columns"], where), answer, file, checksum)


def _row(problem: Problem, settings: Mapping[str, Any], revision: str) -> dict[str, Any]:
    answer = problem.answer
    return {
        "problem_id": problem.identity,
        "prompt": as_messages(settings["prompt"].replace("{question}", problem.question)),
        "ground_truth": answer.ground_truth,
        "answer_type": answer.answer_type,
        "unit": answer.unit,
        "tolerance": answer.tolerance,
        "source": f"{settings['repository']}/{problem.file}",
        "revision": revision,
        "checksum": problem.checksum,
    }


def spread(count: int, limit: int | None) -> list[int]:
    """Indices of at most `limit` of `count` things, evenly spread: sources are sorted by subject, or by difficulty."""
    if limit is None or limit >= count:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


def read_rows(path: Path) -> list[Row]:
    """The rows of a .jsonl or .parquet file.

    Raises:
        ValueError: it is none; for .jsonl with the number of the line.
    """
    if path.suffix == ".parquet":
        try:
            return pq.read_table(path).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path}: not a readable parquet file ({error})") from None
    return list(_read_jsonl(path))


def _read_jsonl(path: Path) -> Iterator[Row]:
    # newline="\n": a line separator inside a text (U+2028) ends no line
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
            yield row


def last_boxed(text: str) -> str | None:
    r"""What the last box of a text holds; braces may be nested, or missing (``\boxed 9``). None if there is no box."""
    found = list(_BOX.finditer(text))
    if not found:
        return None
    rest = text[found[-1].end() :]
    if not rest.startswith("{"):
        return re.split(r"\$|\n", rest, maxsplit=1)[0].strip().rstrip(".")
    depth, i = 0, 0
    while i < len(rest):
        if rest[i] == "\\":  # an escaped brace is text
            i += 2
            continue
        depth += {"{": 1, "}": -1}.get(rest[i], 0)
        if depth == 0:
            return rest[1:i].strip()
        i += 1
    return None


_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")


def _answer(row: Row, content: Mapping[str, Any], where: str) -> Answer:
    """The reader `answer`: a column has it, as text or as a number."""
    value = _column(row, content["columns"]["answer"], where)
    return Answer(_plain(value, where, content["answer_type"]), content["answer_type"])


def _boxed(row: Row, content: Mapping[str, Any], where: str) -> Answer:
    """The reader `boxed`: the last box in a worked solution has it."""
    solution = _column(row, content["columns"]["answer"], where)
    if not isinstance(solution, str):
        raise ValueError(f"{where}: expected a worked solution, found {solution!r}")
    return Answer(_plain(last_boxed(solution), where, content["answer_type"]), content["answer_type"])


def _olympiadbench(row: Row, content: Mapping[str, Any], where: str) -> Answer:
    """The reader `olympiadbench`: a list of texts in dollars, with type, unit and tolerance in other columns."""
    pictures = [key for key, value in row.items() if key.startswith("image") and value not in (None, [], "")]
    if pictures:
        raise ValueError(f"{where}: has a picture ({pictures[0]}), which no policy here sees")
    answers = _column(row, content["columns"]["answer"], where)
    if not isinstance(answers, list | None):
        raise ValueError(f"{where}: expected a list of answers, found {answers!r}")
    texts = [_plain(answer, where, "expression") for answer in answers or []]
    if not all(texts):
        raise ValueError(f"{where}: expected answers, found {answers!r}")
    kinds = [kind.strip() for kind in str(_column(row, "answer_type", where)).split(",")]
    strange = [kind for kind in kinds if kind not in _OLYMPIAD_TYPES]
    if strange:
        raise ValueError(f"{where}: answer_type: expected some of {', '.join(_OLYMPIAD_TYPES)}, found {strange[0]!r}")
    several = bool(_column(row, "is_multiple_answer", where)) or len(texts) > 1 or len(kinds) > 1
    tolerance, remark = _tolerance(_column(row, "error", where), where)
    return Answer(
        ", ".join(texts),
        "multiple" if several else _OLYMPIAD_TYPES[kinds[0]],
        _plain(_column(row, "unit", where), where, "expression"),
        tolerance,
        remark,
    )


_OLYMPIAD_TYPES = {
    "Numerical": "numerical",
    "Expression": "expression",
    "Equation": "equation",
    "Tuple": "tuple",
    "Interval": "interval",
}


def _tolerance(value: Any, where: str) -> tuple[float | None, str]:
    """An absolute error, and a remark if several answers have different ones, of which the least is kept."""
    if _is_missing(value) or str(value).strip() == "":
        return None, ""
    try:
        parts = [float(part) if part.strip() else 0.0 for part in str(value).split(",")]
    except ValueError:
        raise ValueError(f"{where}: error: expected numbers, found {value!r}") from None
    if any(not math.isfinite(part) or part < 0 for part in parts):
        raise ValueError(f"{where}: error: expected numbers of at least 0, found {value!r}")
    remark = f"error is {value!r}; the least is used for every answer" if len(set(parts)) > 1 else ""
    return min(parts) or None, remark


READERS: dict[str, Callable[[Row, Mapping[str, Any], str], Answer]] = {
    "answer": _answer,
    "boxed": _boxed,
    "olympiadbench": _olympiadbench,
}


def _plain(value: Any, where: str, answer_type: str) -> str:
    r"""An answer as text without dollars (but with ``\$``), a number without `.0` and leading zeros; empty for none."""
    if _is_missing(value):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{where}: expected an answer, found {value!r}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = re.sub(r"(?<!\\)\$", "", str(value)).strip()
    number = re.fullmatch(r"(-?)0*(\d+)(\.0*)?", text)
    return number[1] + number[2] if number and answer_type == "numerical" else text


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _column(row: Row, column: str, where: str) -> Any:
    if column not in row:
        raise ValueError(f"{where}: there is no column {column!r}, only {', '.join(row)}")
    return row[column]


def _identity(row: Row, columns: Mapping[str, str], file: str, number: int, path: Path) -> str:
    """The source's identifier; without one the subject (the file's directory, or its name) and the row, from 0."""
    if "id" in columns:
        value = _column(row, columns["id"], f"{path}, row {number}")
        if _is_missing(value) or str(value) == "":
            raise ValueError(f"{path}, row {number}: {columns['id']} is empty")
        return str(value)
    parent = Path(file).parent.name
    return f"{parent or Path(file).stem}/{number}"


def _question(row: Row, columns: Mapping[str, str], where: str) -> str:
    """The question, after its context where there is one."""
    context, question = (
        "" if key not in columns or _is_missing(value := _column(row, columns[key], where)) else str(value).strip()
        for key in ("context", "question")
    )
    if not question:
        raise ValueError(f"{where}: {columns['question']} is empty")
    return f"{context}\n{question}" if context else question


def _correct(problems: Sequence[Problem], corrections: Sequence[Mapping[str, str]], name: str) -> dict[str, str]:
    """Give problems without an answer the one that the configuration has; problem -> answer of those."""
    done = {}
    for correction in corrections:
        begins = correction["question"]
        found = [problem for problem in problems if problem.question.startswith(begins)]
        if len(found) != 1:
            raise ValueError(f"{name}: a correction must fit one question, {begins!r} fits {len(found)}")
        [problem] = found
        if problem.answer.ground_truth:
            has = repr(problem.answer.ground_truth)
            raise ValueError(f"{name}, problem {problem.identity}: has the answer {has}, but also a correction")
        problem.answer = problem.answer._replace(ground_truth=correction["answer"])
        done[problem.identity] = correction["answer"]
    return done


def read_record(record: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a fetch, which must be one of these files from this revision.

    Raises:
        ValueError: there is none, or it is of something else.
    """
    if not record.is_file():
        raise ValueError(f"{record}: there is no such file; expected the record that `asymgrpo fetch` writes")
    fetched = yaml.safe_load(record.read_text(encoding="utf-8"))
    for key in ("repository", "revision"):
        if settings[key] not in (None, fetched[key]):
            raise ValueError(f"{record}: its {key} is {fetched[key]}, but {settings[key]} is wanted: fetch again")
    unfetched = [file for file in settings["content"]["files"] if file not in fetched["files"]]
    if unfetched:
        raise ValueError(f"{record}: {unfetched[0]} is not among what was fetched: fetch again")
    return fetched
