"""The published sets of problems in small: files in the shapes of the originals (columns, types, peculiarities), put
where somebody without a network would put them, and a copy of the configuration that asks for so few problems.
"""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from asymgrpo import records
from asymgrpo.config import load
from asymgrpo.config.files import read
from asymgrpo.hub import fetch
from asymgrpo.tasks.prepare import write_fetched

ROOT = Path(__file__).parents[1]
SETS = ["math-500", "aime24", "aime25", "amc23", "olympiadbench"]
INSTRUCTION = "\nPlease reason step by step, and put your final answer within \\boxed{}."

MATH_500 = [
    ("test/precalculus/807.json", "Convert $(0,3)$ to polar coordinates.", r"\left( 3, \frac{\pi}{2} \right)"),
    ("test/algebra/2584.json", "Find $x$.\u2028Then $x^2$.", r"\frac{14}{3}"),
    ("test/prealgebra/1622.json", "Who ran fastest?", r"\text{Evelyn}"),
    ("test/algebra/1.json", "What does it cost?", r"\$18.90"),
    ("test/algebra/2.json", "Find all roots.", "-2,1"),
]
AIME_24 = [(60, "Every morning Aya goes for a walk.", "204"), (61, "Find $x+y$.", "025"), (62, "Let $b\\ge 2$.", "000")]
AIME_25 = [("0", "Find the sum of all integer bases.", "70"), ("1", "On $\\triangle ABC$ ...", "588")]
AMC = [(0, "Cities $A$ and $B$ are 45 miles apart.", 27.0), (1, "How many?", 36.0), (2, "What part?", 0.5)]

BOXES = [
    (r"so $\boxed{\frac{\sqrt{3}}{2}}$.", r"\frac{\sqrt{3}}{2}"),
    (r"first $\boxed{1}$, then $\boxed{x = \{1,2\}}$", r"x = \{1,2\}"),
    (r"our answer is $\boxed 2$.", "2"),
    (r"Thus $x^2 + y^2 = \boxed 9$.", "9"),
    (r"hence $\fbox{17}$", "17"),
    (r"\[\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}.\]", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"$\boxed{\left\{ 1 \right.}$ and no more", r"\left\{ 1 \right."),
    (r"a whole $\boxed{\$5}$", r"\$5"),
    (r"$\boxed {7}$", "7"),
]
EMPTY = r"Each is divisible by something, so there are $\boxed{}$ primes."
PRIMES = [
    "For any integer $n>1$, the number of prime numbers greater than $n!+1$ and less than $n!+n$ is:\n$\\text{(A) } 0$",
    "You are given a sequence of $58$ terms; each term has the form $P+n$ where $P$ stands for the product $2$",
]


def olympiad(identity, answers, kind, **other):
    row = {
        "id": identity,
        "question": f"Problem {identity}?",
        "solution": ["..."],
        "final_answer": answers,
        "context": None,
        "image_1": None,
        "modality": "Text-only",
        "difficulty": "Competition",
        "is_multiple_answer": False,
        "unit": None,
        "answer_type": kind,
        "error": None,
        "question_type": "Open-ended",
        "subfield": "Algebra",
        "subject": "Math",
        "language": "English",
    }
    return row | other


OLYMPIAD = [
    (olympiad(1606, ["2"], "Numerical"), ("2", "numerical", "", None)),
    (olympiad(1610, ["$\\frac{1}{2 n+2}$"], "Expression"), (r"\frac{1}{2 n+2}", "expression", "", None)),
    (olympiad(1613, ["(1,8,19), (2,7,13), (4,5,7)"], "Tuple", is_multiple_answer=True), (..., "multiple", "", None)),
    (olympiad(1618, ["$(1,3)$"], "Tuple"), ("(1,3)", "tuple", "", None)),
    (olympiad(1620, ["$[-6.5,-6)$"], "Interval"), ("[-6.5,-6)", "interval", "", None)),
    (olympiad(1630, ["$1$,$2$"], "Numerical", is_multiple_answer=True), ("1,2", "multiple", "", None)),
    (olympiad(1631, ["1", "$\\sqrt{2}$"], "Numerical,Expression"), (r"1, \sqrt{2}", "multiple", "", None)),
    (olympiad(1640, ["79.67"], "Numerical", unit="cm", error="1e-1"), ("79.67", "numerical", "cm", 0.1)),
    (
        olympiad(1641, ["$30$"], "Numerical", unit="$\\mathrm{~cm}$", error=""),
        ("30", "numerical", r"\mathrm{~cm}", None),
    ),
    (olympiad(1642, ["1,2"], "Numerical", is_multiple_answer=True, error="0.1,0.01"), ("1,2", "multiple", "", 0.01)),
    (olympiad(1643, ["$y=x$"], "Equation", context="A line."), ("y=x", "equation", "", None)),
]


def as_parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def as_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def place(raw):
    """Write every set's files below `raw`, as in their repositories; returns how many problems each has."""
    as_jsonl(
        raw / "math-500" / "test.jsonl",
        [
            {"problem": p, "solution": "...", "answer": a, "subject": "x", "level": 3, "unique_id": i}
            for i, p, a in MATH_500
        ],
    )
    as_parquet(
        raw / "aime24" / "data/train-00000-of-00001.parquet",
        [{"id": i, "problem": p, "solution": "...", "answer": a, "url": "u", "year": "2024"} for i, p, a in AIME_24],
    )
    as_jsonl(raw / "aime25" / "test.jsonl", [{"problem": p, "answer": a, "id": i} for i, p, a in AIME_25])
    as_parquet(
        raw / "amc23" / "test-00000-of-00001.parquet",
        [{"id": i, "answer": a, "url": "u", "question": q} for i, q, a in AMC],
    )
    as_parquet(
        raw / "olympiadbench" / "OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet",
        [row for row, _ in OLYMPIAD],
    )
    solutions = [text for text, _ in BOXES]
    subjects = read(ROOT, Path("config/benchmarks.yaml"))["datasets"]["math-train"]["source"]
    for file in subjects["content"]["value"]["files"]:
        subject = file.partition("/")[0]
        rows = [
            {
                "problem": f"{subject} {i}",
                "level": "Level ?" if i == 3 else "Level 5",
                "type": subject,
                "solution": text,
            }
            for i, text in enumerate(solutions)
        ]
        if subject == "number_theory":
            rows += [{"problem": p, "level": "Level 4", "type": subject, "solution": EMPTY} for p in PRIMES]
        as_parquet(raw / "math-train" / file, rows)
    counts = {"math-500": MATH_500, "aime24": AIME_24, "aime25": AIME_25, "amc23": AMC, "olympiadbench": OLYMPIAD}
    return {name: len(rows) for name, rows in counts.items()} | {"math-train": 7 * len(BOXES) + len(PRIMES)}


class Project:
    """A copy of the configuration whose scale `sets` trains and evaluates on the published sets, which are in place."""

    def __init__(self, root):
        self.root, self.raw = root, root / "results/sets/data/raw"

    def build(self):
        root = self.root
        for part in ("config", "workflow/schemas"):
            shutil.copytree(ROOT / part, root / part, dirs_exist_ok=True)
        (root / "config/pins.yaml").unlink(missing_ok=True)
        scale = self.read("scales/tiny")
        scale["data"]["train"] = {"dataset": {"value": "math-train", "provenance": "stated"}}
        scale["evaluation"]["benchmarks"]["value"] = list(SETS)
        scale["evaluation"]["select_on"]["value"] = "math-500"
        del scale["evaluation"]["max_problems"]
        self.write("scales/sets", scale)
        counts = place(self.raw)
        for name, count in counts.items():
            self.set(name, problems=count)
            content = self.source(name)["content"]["value"]
            self.set(name, content=content | {"files": dict.fromkeys(content["files"])})
        return self

    def read(self, name):
        return read(self.root, Path("config", f"{name}.yaml"))

    def write(self, name, document):
        text = yaml.dump(document, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
        (self.root / "config" / f"{name}.yaml").write_text(text)

    def source(self, name):
        document = self.read("benchmarks")
        return (document["benchmarks"].get(name) or document["datasets"][name])["source"]

    def set(self, name, **values):
        """Change settings of a source; None removes one."""
        document = self.read("benchmarks")
        source = (document["benchmarks"].get(name) or document["datasets"][name])["source"]
        for key, value in values.items():
            if value is None and key != "revision":
                del source[key]
            else:
                source[key]["value"] = value
        self.write("benchmarks", document)

    def study(self):
        return load(self.root, {"scale": "sets"})

    def problems(self, name):
        """Fetch, convert and read a set."""
        study = self.study()
        list(fetch(study, [name]))
        out = self.root / "out" / f"{name}.parquet"
        write_fetched(study.fetched_problems()[name].settings, Path(f"{study.raw_dir(name)}.yaml"), out)
        return records.read(out, records.BENCHMARK).to_pylist()

    def fails(self, name):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            self.problems(name)
        text = str(caught.value)
        assert "\n" not in text
        return text
