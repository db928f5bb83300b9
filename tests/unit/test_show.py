"""Tables and runs as text for a terminal."""

import os
import re

import pytest
from test_figures import study_at, write_run
from test_status import record

from asymgrpo import terminal
from asymgrpo.config import Run
from asymgrpo.show import markdown_as_text, show
from asymgrpo.tables.render import Estimate, Table, markdown
from asymgrpo.training.runtime import Progress

RUN = Run("qwen3-160k", "asymgrpo", 1)


@pytest.fixture
def study(tmp_path):
    return study_at(tmp_path)


ROWS = [["name", "first", "second"], ["a", "1", "22"], ["bbbb", "333", "4"]]


def test_columns_are_aligned():
    assert terminal.table(ROWS).splitlines() == ["name  first  second", "a         1      22", "bbbb    333       4"]
    assert terminal.table(ROWS, left=3).splitlines()[1] == "a     1      22"
    assert terminal.table([]) == ""


def test_a_table_wider_than_the_window_comes_in_blocks():
    lines = terminal.table(ROWS, limit=13).splitlines()
    assert lines == ["name  first", "a         1", "bbbb    333", "", "name  second", "a         22", "bbbb       4"]
    assert max(map(len, lines)) <= 13
    assert terminal.table(ROWS, limit=5).count("name") == 2  # narrower than that it cannot be


def test_columns_can_be_broken_instead():
    rows = [["done", "x"], ["stale", "steps was 80, is 60; and one more word"]]
    assert terminal.table(rows, limit=36, left=2, wrap=[1]).splitlines() == [
        "done   x",
        "stale  steps was 80, is 60; and one",
        "       more word",
    ]
    assert terminal.table(rows, limit=60, left=2, wrap=[1]).count("\n") == 1
    path = "/a/very-long/path/" * 5
    both = terminal.table([["k", "one two " * 5, f"{path} and more"]], limit=40, left=3, wrap=[1, 2])
    assert path in both  # to be copied
    assert both.split()[-2:] == ["and", "more"]
    assert max(len(line) for line in both.splitlines() if path not in line) <= 40


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (None, "null"), ([1, 2.5], "1, 2.5"), ("a\nb", "a\\nb"), (1e-06, "1e-06"), ((), "")],
)
def test_values_in_one_line(value, text):
    assert terminal.words(value) == text


def test_a_table_of_the_project_survives_the_way_through_markdown():
    rows = [["GRPO | x", Estimate(1.0, 0.5, 1.5), "–"], ["Asym†", Estimate(22.0), "59.36"]]
    table = Table("Table 9. A title", ["Method", "Easy\nn = 10", "Paper"], rows, ["A note. " * 20])
    text = markdown_as_text(markdown(table, table), 60)
    lines = text.splitlines()
    assert lines[0] == "Table 9. A title"
    assert lines[2:6] == [
        "Method              Easy  Paper",
        "                  n = 10",
        "GRPO | x  1.0 [0.5, 1.5]      –",
        "Asym†               22.0  59.36",
    ]
    assert max(map(len, lines)) <= 60
    assert text.count("Table 9. A title") == 2
    assert " ".join(text.split()).count("A note.") == 40


def test_a_table_is_read_from_its_file(study):
    with pytest.raises(
        ValueError, match=r"table2\.md: has not been made; make it with: snakemake .*scale=tiny.*table2\.md"
    ):
        show(study, "table2")
    file = study.table_stem("table2").with_suffix(".md")
    file.parent.mkdir(parents=True)
    file.write_text(markdown(Table("T", ["a", "b"], [["x", Estimate(1.0)]])))
    os.utime(file, (0, 0))
    text = show(study, "table2")
    assert text.startswith("T\n\na    b\nx  1.0\n")
    assert re.search(r"table2\.md, made (1970-01-01|1969-12-31) ", text)


@pytest.mark.parametrize(
    ("what", "path", "message"),
    [
        (
            "claim",
            None,
            "claim: there is no such table; expected one of table1, table2, evaluation, .*claims.*, or run and a path",
        ),
        ("table9", None, "there is no such table"),
        ("table1", "x", "x: expected nothing after table1"),
        ("run", None, "run: expected its path"),
        ("run", "nowhere", "nowhere: expected the directory of a run, or backbone/method/seed-n"),
        ("run", "grpo/seed-1", "expected the directory of a run"),
        ("run", "qwen3-160k/grpo/seed-0", "expected the directory of a run"),
        ("run", "qwen3-160k/gpro/seed-1", "unknown method 'gpro'.*did you mean 'grpo'"),
        ("run", "qwen3-16k/grpo/seed-1", "unknown backbone 'qwen3-16k'"),
        ("run", "results/huge/runs/qwen3-160k/grpo/seed-1", "unknown scale 'huge'"),
    ],
)
def test_what_cannot_be_shown(what, path, message, request):
    from asymgrpo.config import load

    with pytest.raises(ValueError, match=message):
        show(load(request.config.rootpath, {"scale": "tiny"}), what, path)


@pytest.fixture
def made(study):
    """A run with a record and curves."""
    place = record(study, RUN)
    write_run(study, RUN)
    with (place / "run.yaml").open("a") as file:
        file.write("environment: {device: cpu, cores: 2, git_commit: abc, versions: {torch: '2.0', verl: null}}\n")
        file.write("result: {best_step: 2, best_accuracy: 0.5}\n")
    return place


@pytest.mark.parametrize("form", ["directory", "file", "name"])
def test_a_run_by_its_path(study, made, form):
    path = {"directory": str(made), "file": str(made / "run.yaml"), "name": "qwen3-160k/asymgrpo/seed-1"}[form]
    text = show(study, "run", path, 100)
    assert text.startswith("AsymGRPO, Qwen3-160k (cut), seed 1, scale tiny\n\ndone\n")
    assert re.search(r"^step 4\nreward +0\.\d+\nentropy +0\.\d+$", text, re.MULTILINE)
    assert re.search(r"^accuracy while training \(%\)  start, step 0  best, step 2  last, step 4$", text, re.MULTILINE)
    assert re.search(r"^estimator\.beta_pos +0\.9 +v1", text, re.MULTILINE)
    assert "commit abc; " in text
    assert "torch 2.0" in text
    assert "verl" not in text
    assert re.search(rf"^run +\d.* MB  {re.escape(str(made))}", text, re.MULTILINE)
    assert max(len(line) for line in text.splitlines() if str(made.parents[3]) not in line) <= 100  # paths stay whole


def test_settings_are_those_that_the_run_was_made_with(study, made):
    file = made / "run.yaml"
    file.write_text(file.read_text().replace("value: 0.9", "value: 0.7").replace("beta_pos: 0.9", "beta_pos: 0.7"))
    text = show(study, "run", str(made))
    assert re.search(r"^estimator\.beta_pos +0\.7 +v1", text, re.MULTILINE)
    assert "stale: estimator.beta_pos was 0.7, is 0.9" in text


def test_a_run_that_is_not_there_yet(study):
    text = show(study, "run", "qwen3-160k/asymgrpo/seed-1")
    assert "\n\nmissing\n" in text
    assert "settings, as config/ has them now" in text
    assert "nothing is there yet" in text
    work = study.work_dir(RUN)
    Progress("x", 4, work).step(2, saved=True)
    (work / "checkpoint.pt").touch()
    assert "resumable: from step 2 of 4" in show(study, "run", "qwen3-160k/asymgrpo/seed-1")


def test_a_path_may_name_another_scale(request, monkeypatch):
    from asymgrpo.config import load

    study = load(request.config.rootpath, {"scale": "tiny"})
    text = show(study, "run", "results/smoke/runs/qwen3-160k/dr-grpo/seed-3")
    assert text.startswith("Dr.GRPO, Qwen3-160k, seed 3, scale smoke")
