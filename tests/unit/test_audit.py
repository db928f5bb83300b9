"""The audit of reported accuracies: the paper's own, any other file, and files that are not as they should be."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from asymgrpo import audit
from asymgrpo.analysis import granularity as g
from asymgrpo.analysis.granularity import Pair
from asymgrpo.audit import text
from asymgrpo.audit.judging import COLUMNS
from asymgrpo.cli import main

REPORTED = "config/reported/table2.csv"
PROTOCOL = {"Easy": Pair(100, 3), "Hard": Pair(30, 10)}


@pytest.fixture(scope="module")
def root(request):
    return request.config.rootpath


@pytest.fixture(scope="module")
def paper(root):
    """The audit of the paper's Table 2, with the protocol of config/."""
    protocol = audit.stated(root)
    return audit.audit(audit.read(root / REPORTED, protocol), protocol)


@pytest.fixture
def file(tmp_path):
    """file("a,b", "1,2") -> a CSV of these lines."""

    def write(*lines, name="table.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def command(capsys):
    def call(*arguments):
        capsys.readouterr()
        code = main(["audit", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


# -- the paper's ------------------------------------------------------------------------------------------------------


def test_the_protocol_of_the_paper_is_that_of_the_configuration(root):
    assert {name: (pair.problems, pair.samples) for name, pair in audit.stated(root).items()} == {
        "MATH-500": (500, 5),
        "AIME24": (30, 10),
        "AIME25": (30, 10),
        "AMC23": (40, 10),
        "OlympiadBench": (674, 5),
    }


def test_cells_of_the_paper(paper):
    """21 of the 80 cells of v2 are no multiple; four more are one only if numbers are cut off."""
    cells = paper.of("cell")
    second = cells[cells["version"] == "v2"]
    assert second["verdict"].value_counts().to_dict() == {g.MULTIPLE: 55, g.NO_MULTIPLE: 21, g.CUT_OFF: 4}
    assert cells[cells["version"] == "v1"]["verdict"].value_counts().to_dict() == {g.MULTIPLE: 4, g.NO_MULTIPLE: 1}
    by_hand = second[(second["block"] == "Qwen2.5-7B-Base") & (second["benchmark"] == "AIME25")]
    assert by_hand["verdict"].tolist() == [g.NO_MULTIPLE] * 3
    assert by_hand["problems_that_fit"].tolist() == ["29"] * 3
    clip = second[(second["row"] == "GRPO + Clip-higher") & (second["benchmark"] == "MATH-500")].iloc[0]
    assert (clip["reported"], clip["count"], clip["line"]) == ("90.07", 2252, 26)
    assert clip["off"] == pytest.approx(1)
    assert "3" in clip["samples_that_fit"].split()


def test_blocks_of_the_paper(paper):
    """What fits instead, found from the cells alone, and what chance explains."""
    found = paper.of("block").set_index(["block", "benchmark"])
    others = [("Qwen2.5-7B-Base", g.CUT), ("Qwen2.5-Math-1.5B", g.NEAREST)]
    expected = {
        ("Qwen3-4B", "MATH-500"): (500, 3, g.NEAREST),
        ("Qwen3-4B", "OlympiadBench"): (672, 3, g.NEAREST),
        **{(name, "MATH-500"): (497, 3, rounding) for name, rounding in others},
        **{(name, "AIME25"): (29, 10, rounding) for name, rounding in others},
    }
    for place, pair in expected.items():
        row = found.loc[place]
        assert (row["fit_problems"], row["fit_samples"], row["fit_rounding"]) == pair
        assert row["verdict"] == g.OTHER_PAIR
        assert row["expected"] < g.TELLING
    assert "Qwen2.5-Math-1.5B" in found.loc[("Qwen2.5-7B-Base", "AIME25"), "also_fits"]
    for name, _ in others:
        assert found.loc[(name, "OlympiadBench"), "verdict"] == g.UNDECIDED
    for name in ("Qwen3-4B", *(name for name, _ in others)):
        for benchmark in ("AIME24", "AMC23"):
            assert found.loc[(name, benchmark), "verdict"] == g.AS_STATED
            assert found.loc[(name, benchmark), "chance"] < 0.001


def test_averages_of_the_paper(paper):
    assert paper.of("average")["verdict"].tolist() == [g.SAME] * 17


def test_findings_are_told_in_words(paper):
    told = "\n".join(text.findings(paper))
    assert "21 of 80 cells of v2 are no multiple of 100 / (n k), rounded or cut off; 25 if" in told
    assert "11 are off by more than one unit" in told
    assert (
        "MATH-500 fits 500 x 3 (n k = 1500) instead of 500 x 5 in Qwen3-4B, Qwen3-4B (v1): expected by chance" in told
    )
    assert "AIME25 fits 29 x 10 (n k = 290) instead of 30 x 10 in Qwen2.5-7B-Base (cut off), Qwen2.5-Math-1.5B:" in told
    assert "Every one of 17 averages is the mean of its row." in told


# -- any other file ---------------------------------------------------------------------------------------------------


def test_a_wide_table_whose_truth_is_known(file):
    """One block as stated; one with 97 problems of 100, in all its cells; one average that is wrong."""
    rng, lines = np.random.default_rng(3), ["method,model,Easy,Hard,Mean"]
    for model, easy in (("A", 300), ("B", 291)):
        for row in range(4):
            cells = [100 * rng.integers(1, total) / total for total in (easy, 300)]
            mean = np.mean([round(cell, 2) for cell in cells]) + (1 if (model, row) == ("A", 2) else 0)
            lines.append(f"m{row},{model},{cells[0]:.2f},{cells[1]:.2f},{mean:.2f}")
    entries = audit.read(file(*lines), PROTOCOL)
    assert len(entries) == 8 * 3
    found = audit.audit(entries, PROTOCOL)
    blocks = found.of("block").set_index(["block", "benchmark"])["verdict"]
    assert blocks.to_dict() == {
        ("A", "Easy"): g.AS_STATED,
        ("B", "Easy"): g.OTHER_PAIR,
        ("A", "Hard"): g.AS_STATED,
        ("B", "Hard"): g.AS_STATED,
    }
    best = found.of("block").set_index(["block", "benchmark"]).loc[("B", "Easy")]
    assert (best["fit_problems"], best["fit_samples"]) == (97, 3)
    averages = found.of("average")
    assert averages[averages["verdict"] == g.NOT_THE_MEAN]["row"].tolist() == ["m2"]
    assert "1 are not: m2 (line 4)." in text.findings(found)[-1]
    assert list(found.data.columns) == list(COLUMNS)


def test_wide_and_long_say_the_same(file, root, paper):
    """The paper's table turned wide gives the same verdicts; so does one with tabs."""
    long = pd.read_csv(root / REPORTED, dtype=str)
    wide = long.pivot(index=["backbone", "method", "version"], columns="benchmark", values="accuracy").reset_index()
    assert len(wide) == 17
    for ending, separator in (("csv", ","), ("tsv", "\t")):
        path = file(*wide.to_csv(index=False, sep=separator).splitlines(), name=f"wide.{ending}")
        found = audit.audit(audit.read(path, paper.protocol), paper.protocol)
        keys = ["check", "block", "row", "benchmark"]
        ours, theirs = (
            part.sort_values(keys)[[*keys, "reported", "verdict", "expected"]].reset_index(drop=True)
            for part in (found.data, paper.data)
        )
        pd.testing.assert_frame_equal(ours, theirs)


def test_a_single_unnamed_row_with_an_absent_cell(file):
    found = audit.audit(audit.read(file("Easy,Hard", "33.33,", "–,10.0"), PROTOCOL), PROTOCOL)
    cells = found.of("cell")
    assert cells[["line", "benchmark", "verdict"]].values.tolist() == [[2, "Easy", g.MULTIPLE], [3, "Hard", g.MULTIPLE]]
    assert set(cells["block"]) == {"all rows"}
    assert found.of("average").empty


def test_what_the_file_does_not_say_itself(file):
    """Lost zeros, shares, another name of the average, another column of blocks, a column that is not looked at."""
    path = file("name,group,seed,Easy,all", "a,1,7,0.333,0.333", "b,2,8,0.1,0.1")
    layout = audit.Layout(block="group", average="all", ignore=["seed"], decimals=1, fractions=True)
    entries = audit.read(path, PROTOCOL, layout)
    assert [(e.block, e.label, e.benchmark, str(e.number)) for e in entries] == [
        ("1", "a", "Easy", "33.3"),
        ("1", "a", "", "33.3"),
        ("2", "b", "Easy", "10.0"),
        ("2", "b", "", "10.0"),
    ]


@pytest.mark.parametrize("form", ["yaml", "mappings", "csv", "options"])
def test_a_protocol_may_be_given_in_several_ways(file, form):
    if form == "options":
        assert audit.from_options(["Easy=100x3", "Hard = 30 × 10"]) == PROTOCOL
        return
    path = {
        "yaml": lambda: file("Easy: 100x3", "Hard: 30 x 10", name="p.yaml"),
        "mappings": lambda: file(
            "Easy: {problems: 100, samples: 3}", "Hard: {problems: 30, samples: 10}", name="p.yaml"
        ),
        "csv": lambda: file("benchmark,problems,samples", "Easy,100,3", "", "Hard,30,10", name="p.csv"),
    }[form]()
    assert audit.from_file(path) == PROTOCOL


def test_options_go_before_the_file_and_the_file_before_the_configuration(file, root):
    path = file("Easy: 100x3", name="p.yaml")
    assert audit.chosen(path, ["Easy=50x3"], root) == {"Easy": Pair(50, 3)}
    assert list(audit.chosen(path, [], root)) == ["Easy"]
    assert audit.chosen(None, [], root) == audit.stated(root)


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_on_the_papers_table(command, root, paper):
    code, output, error = command(root / REPORTED, "--root", root)
    assert (code, error) == (0, "")
    assert output.startswith(f"{root / REPORTED}: 85 accuracies in 4 blocks, 17 averages\n")
    words = " ".join(output.split())
    for sentence in text.findings(paper):
        assert " ".join(sentence.split()) in words
    code, output, _ = command(root / REPORTED, "--root", root, "--json")
    found = json.loads(output)
    assert found["findings"] == text.findings(paper)
    assert [len(found[name]) for name in ("cells", "blocks", "averages")] == [85, 20, 17]
    assert "NaN" not in output
    code, output, _ = command(root / REPORTED, "--root", root, "--csv")
    assert output.splitlines()[0] == ",".join(COLUMNS)
    assert len(output.splitlines()) == 1 + 85 + 20 + 17


def test_the_command_needs_no_repository(command, file, tmp_path):
    path = file("method,Easy,Hard", "a,33.33,10.00", "b,33.34,20.00")
    code, output, _ = command(path, "--root", tmp_path, "--benchmark", "Easy=100x3", "--benchmark", "Hard=30x10")
    assert code == 0
    assert "1 of 4 cells are no multiple of 100 / (n k), rounded or cut off" in " ".join(output.split())
    assert "k from 1 to 10 or the stated one" in " ".join(output.split())
    options = ["--benchmark", "Easy=100x3", "--benchmark", "Hard=30x10", "--samples", "2-4", "--missing", "0"]
    code, output, _ = command(path, *options)
    assert "up to 0% of the problems missing, and k from 2 to 4" in " ".join(output.split())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: found []; expected the names of columns"),
        (["method,Easy,Easy", "a,1,2"], "line 1: the column 'Easy' is there 2 times; expected a name of its own"),
        (["method,,Easy", "a,1,2"], "line 1: a column has no name"),
        (["method,Easy", "a,1,2"], "line 2: found 3 cells; expected 2"),
        (["method,Easy", "a,33.33", "b,many"], "line 3, column Easy: found 'many'; expected a percentage"),
        (["method,Easy", "a,33.3 ± 0.1"], "line 2, column Easy: found '33.3 ± 0.1'; expected a percentage"),
        (["method,Easy", "a,133.3"], "line 2, column Easy: found '133.3'; expected at most 100 percent"),
        (["method,Esay", "a,33.3"], "line 2, column Esay: holds a number, but there is no benchmark 'Esay' (did "
         "you mean 'Easy'?); expected one of Easy, Hard; or say --benchmark 'Esay=NxK', or --ignore 'Esay'"),
        (["method,Easy,Avg,Mean", "a,1,2,3"], "the columns Avg, Mean are all averages; expected one"),
        (["method,Easy", "a,"], "holds no accuracy; expected numbers for Easy, Hard"),
        (["method,Easy", "a,1", "a,2"], "line 3: a: Easy is given again; expected once, as in line 2"),
        (["benchmark,accuracy", "Esay,1"], "line 2, column benchmark: unknown benchmark 'Esay' (did you mean 'Easy'?)"),
        (["benchmark,accuracy", "Easy,x"], "line 2, column accuracy: found 'x'; expected a percentage"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_as_expected_is_one_line(command, file, lines, message):
    path = file(*lines)
    code, output, error = command(path, "--benchmark", "Easy=100x3", "--benchmark", "Hard=30x10")
    assert (code, output) == (1, "")
    assert error.count("\n") == 1
    assert error.startswith(f"asymgrpo audit: {path}: ")
    assert message in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--benchmark", "Easy"], "--benchmark 'Easy': expected NAME=NxK"),
        (["--benchmark", "Easy=5"], "--benchmark 'Easy=5': found '5'; expected problems x samples, e.g. 500x5"),
        (["--benchmark", "Easy=0x5"], "problems: found 0; expected a whole number of at least 1"),
        (["--benchmark", "Easy=5x5", "--benchmark", "Easy=5x6"], "Easy is given twice; expected each benchmark once"),
        (["--protocol", "nowhere.yaml"], "nowhere.yaml: no such file; expected the protocol as YAML or CSV"),
        (["--benchmark", "Easy=100x3", "--block", "modle"], "there is no column 'modle'"),
        (["--benchmark", "Easy=100x3", "--ignore", "Esy"], "there is no column 'Esy' (did you mean 'Easy'?)"),
        (["--benchmark", "Easy=100x3", "--average", "all"], "there is no column 'all'; expected one of method, Easy"),
        (["--benchmark", "Easy=100x3", "--decimals", "1"], "found '33.33' with 2 decimals; expected at most 1"),
        (["--benchmark", "Easy=100x3", "--fractions"], "column Easy: found '33.33'; expected a share from 0 to 1"),
        (["--benchmark", "Easy=100x3", "--samples", "5-2"], "--samples: found '5-2'; expected the smallest"),
        (["--benchmark", "Easy=100x3", "--missing", "100"], "--missing: found 100; expected from 0 to below 100"),
    ],
)  # fmt: skip
def test_an_option_that_is_not_as_expected_is_one_line(command, file, options, message):
    code, output, error = command(file("method,Easy", "a,33.33"), *options)
    assert (code, output) == (1, "")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("p.yaml", [], "expected benchmarks with their n x k"),
        ("p.yaml", ["Easy: 5"], "Easy: found 5; expected NxK, e.g. 500x5, or {problems: 500, samples: 5}"),
        ("p.yaml", ["Easy: {problems: 5}"], "expected NxK"),
        ("p.yaml", ["Easy: {problems: many, samples: 5}"], "problems: found 'many'; expected a whole number"),
        ("p.yaml", ["Easy: ["], "is not valid YAML"),
        ("p.csv", ["name,n,k"], "line 1: found the columns name, n, k; expected benchmark, problems, samples"),
        ("p.csv", ["benchmark,problems,samples", "Easy,many,5"], "line 2: found 'manyx5'; expected problems x samples"),
        ("p.csv", ["benchmark,problems,samples", "Easy,5"], "line 2: found 2 cells; expected 3"),
        ("p.csv", ["benchmark,problems,samples"], "names no benchmark; expected at least one"),
    ],
)
def test_a_protocol_that_is_not_as_expected_is_one_line(command, file, name, lines, message):
    path = file(*lines, name=name)
    code, _, error = command(file("method,Easy", "a,33.33"), "--protocol", path)
    assert code == 1
    assert error.count("\n") == 1
    assert f"{path}" in error
    assert message in error


def test_nothing_that_says_the_protocol(command, file, tmp_path):
    code, _, error = command(file("method,Easy", "a,33.33"), "--root", tmp_path)
    assert code == 1
    assert "no protocol is given, and" in error
    assert "expected --benchmark NAME=NxK for each benchmark, or --protocol FILE" in error


def test_the_configuration_says_how_a_file_of_another_name_was_evaluated(command, file, root, tmp_path):
    """The paper's protocol is what is there without options: a file of other benchmarks is told so."""
    code, _, error = command(file("method,GSM8K", "a,33.33"), "--root", root)
    assert code == 1
    assert "no benchmark 'GSM8K'; expected one of MATH-500, AIME24" in error
    protocol = {name: {"problems": pair.problems, "samples": pair.samples} for name, pair in audit.stated(root).items()}
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(protocol))
    assert audit.from_file(path) == audit.stated(root)
