"""A small finished scale for tests of the report: runs by the writers of test_figures, and responses that mean harm."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from test_figures import study_at, write_run, write_scores

from asymgrpo import figures, records
from asymgrpo.config import Run, Study
from asymgrpo.report import responses
from asymgrpo.report.claims import VERDICTS

HARM = {
    "script": "<script>window.harmed = 'script'</script>",
    "end of the data": "</script></template><img src=x onerror=\"window.harmed = 'img'\">",
    "event": '<svg onload="window.harmed = 1"><a href="javascript:window.harmed=2">press</a></svg>',
    "template": "{{ 7 * 7 }} {% raw %} ${7*7} <%= 7*7 %>",
    "separators": "one\u2028two\u2029three\x00four",
    "direction": "answer \u202e4321\u202c and \u2066isolate\u2069, a\u200bb",
    "math": r"\(\frac{1}{2}\) then \[\href{javascript:window.harmed=3}{x^2}\]"
    r" and $\text{<img src=x onerror=alert(1)>}$",
    "markup in MathML": "<math><mtext><img src=x onerror='window.harmed=4'></mtext></math>",
    "combining": "Z" + "\u0334\u0335\u0336" * 30,
    "long": "and so on " * 900,
}
"""What a model may write."""


def response_of(position: int) -> str:
    """One of :data:`HARM`, in turn."""
    return list(HARM.values())[position % len(HARM)]


def write_samples(study: Study, run: Run) -> None:
    """A harmful response for every verdict that there is; what was extracted is harmful, too."""
    for benchmark in study.benchmarks:
        place = study.evaluation_dir(run)
        scores = records.read(place / f"{benchmark}.scores.parquet", records.SCORES).to_pylist()
        rows = []
        for row in scores:
            # in the order of the report, so that every kind of harm is among what it shows
            position = int(responses.order(row["problem_id"], row["sample"])[:6], 16)
            row["extracted"] = response_of(position + 1)
            kept = {name: row[name] for name in records.SAMPLES.names if name != "response"}
            rows.append(kept | {"response": response_of(position)})
        records.write(place / f"{benchmark}.samples.parquet", rows, records.SAMPLES)
        records.write(place / f"{benchmark}.scores.parquet", scores, records.SCORES)


def write_problems(study: Study, problems: int) -> None:
    for name in study.benchmarks:
        rows = [
            {
                "problem_id": f"{number:04d}",
                "prompt": [{"role": "user", "content": f"What is $x_{number}$? <b>bold</b>"}],
                "ground_truth": str(number), "answer_type": "numerical", "unit": "", "tolerance": None,
                "source": "here", "revision": "1", "checksum": "",
            }
            for number in range(problems)
        ]  # fmt: skip
        records.write(study.benchmark_file(name), rows, records.BENCHMARK)


def write_record(study: Study, run: Run) -> None:
    """run.yaml and timings.parquet, of half a second of each kind and step."""
    place = study.runs_dir(run)
    steps = study.spec(run)["steps"]
    phases = [name for name in records.TIMINGS.names if name != "step"]
    rows = [{"step": step} | dict.fromkeys(phases, 0.125) for step in range(1, steps + 1)]
    records.write(place / "timings.parquet", rows, records.TIMINGS)
    record = {
        "spec": study.spec(run),
        "fingerprint": "0123456789abcdef",
        "settings": study.provenance(run),
        "environment": {
            "date": f"2026-01-0{run.seed}T12:00:00+00:00", "python": "3.11.9",
            "versions": {"torch": "2.0", "verl": None},
            "git_commit": "c0ffee" + "0" * 34, "git_changes": False, "device": "cpu", "processor": "A <b>processor</b>",
            "cores": 2, "threads": 1, "platform": "Linux",
        },
        "result": {"best_step": 10, "best_accuracy": 0.5, "cpu_seconds": 1.0, "resumed_after_step": None},
    }  # fmt: skip
    (place / "run.yaml").write_text(yaml.safe_dump(record, sort_keys=False))


def claims(study: Study) -> dict:
    """Verdicts of every kind, in the shape of results/<scale>/tables/claims.json."""
    found = []
    for number, verdict in enumerate(VERDICTS, 1):
        tested = verdict != "not tested at this scale"
        statements = [
            {
                "id": f"{number}-{backbone}", "backbone": backbone,
                # as long as statements get
                "text": f"Statement {number} <i>plain</i>: share of groups that no rollout solves within ±2 points of "
                "that of REINFORCE, after the first tenth",
                "quantity": "entropy", "unit": "nats per token", "window": "steps 7–24, 25–42, 43–60",
                "contrast": "reinforce-none-solved-zero - reinforce", "direction": ">", "threshold": 0.0,
                "test": "two one-sided t over seeds, paired", "verdict": verdict,
                "effect": 0.0145 * number if tested else None,
                "low": -0.000875 if tested else None, "high": 0.0282 * number if tested else None,
                "seeds": list(study.seeds) if tested else [],
                "p": 0.01 if tested else None, "p_holm": 0.0004 if tested else None,
                "paper": 2.86 if number == 1 else None, "paper_note": "", "figure": "fig2",
                "seeds_needed": 743 if verdict == "inconclusive" else None, "note": "",
            }
            for backbone in study.backbones
        ]  # fmt: skip
        found.append(
            {
                "claim": str(number), "title": f"Claim {number} <script>window.harmed = 5</script>", "verdict": verdict,
                "why": f"Because of {number}.", "figure": "table2" if number == 2 else "fig2", "statements": statements,
            }
        )  # fmt: skip
    return {
        "scale": study.scale, "seeds": list(study.seeds), "level": 0.95, "family": "All of a claim.",
        "rule": "By interval.", "claims": found,
    }  # fmt: skip


TABLE = """**A table & its $\\alpha$, by <b>method</b>**

| Method        | Score<br>n = 2 | Note  |
| ------------- | -------------: | ----: |
| GRPO          | 9.5 [8.0, 11]  | b     |
| AsymGRPO      | 10.5 [9.0, 12] | <script>window.harmed = 6</script> |
| [a](javascript:alert(1)) | –   | c     |
| REINFORCE     | -2.0           | a     |

A note with `code`.

"""

REPORTED = """**Reported and reproduced**

| Method | Average |
| ------ | ------: |
| GRPO   | 56.50; 25.0; reference |
| Pos    | -1.19; -0.6 [-0.9, -0.3]: sign agrees |
| Neg    | +1.19; -0.6 [-0.9, -0.3]: sign differs |
| Dr     | +0.19; -0.6 [-0.9, 0.3]: undecided |

"""


def example_at(root: Path, scale: str = "tiny") -> Study:
    """A scale with few methods and two seeds."""
    return study_at(
        root, scale, seeds=[1, 2], artefacts=["fig1", "fig2", "fig3", "table1", "table2", "reported", "claims"]
    )


def write_example(root: Path, scale: str = "tiny", problems: int = 12) -> Study:
    """Every file that the report reads, with two figures and two tables."""
    study = example_at(root, scale)
    for run in study.runs():
        write_run(study, run)
        write_record(study, run)
    for run in responses.of_first_seed(study):
        write_scores(study, run, problems)
        write_samples(study, run)
    write_problems(study, problems)
    for name in ("fig1", "fig2"):
        figures.make(name, study)
    for name, text in (("table2", TABLE), ("reported", REPORTED)):
        path = study.table_stem(name).with_suffix(".md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    study.table_stem("claims").with_suffix(".json").write_text(json.dumps(claims(study)))
    return study
