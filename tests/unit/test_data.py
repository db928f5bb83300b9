"""Problems from published files, from the configuration to the parquet that everything reads; each in its own shape.

The files are written here, in the shapes of the originals (columns, types, peculiarities), and put where somebody
without a network would put them: fetching and reading are the real ones.
"""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.published import (
    AIME_24,
    AIME_25,
    AMC,
    BOXES,
    INSTRUCTION,
    MATH_500,
    OLYMPIAD,
    ROOT,
    SETS,
    Project,
    as_parquet,
)

from asymgrpo import records
from asymgrpo.cli import main
from asymgrpo.config import ConfigError
from asymgrpo.tasks import lengths
from asymgrpo.tasks.overlap import Overlap, normalised, overlap, read_overlap, write_overlap
from asymgrpo.tasks.prepare import write_fetched
from asymgrpo.tasks.problems import ANSWER_TYPES, about, as_messages, text_of, write
from asymgrpo.tasks.sources import last_boxed, spread


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("built")).build()


@pytest.fixture
def project(built, tmp_path):
    shutil.copytree(built.root, tmp_path / "project")
    return Project(tmp_path / "project")


# -- each set in its own shape ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SETS, "math-train"])
def test_every_set_has_the_same_columns(project, name):
    rows = project.problems(name)
    source = project.source(name)
    assert len(rows) == len({row["problem_id"] for row in rows}) == source["problems"]["value"]
    for row in rows:
        assert row["answer_type"] in ANSWER_TYPES
        assert row["ground_truth"]
        assert text_of(row["prompt"]).endswith(INSTRUCTION)
        assert row["source"].startswith(source["repository"]["value"])
        assert row["revision"] == source["revision"]["value"]
        assert len(row["checksum"]) == 64
    path = project.root / "out" / f"{name}.parquet"
    said = about(path)
    assert said["licence"] == source["licence"]["value"]
    assert said["problems"] == said["used"] == len(rows)
    assert set(said["files"].values()) == {row["checksum"] for row in rows}
    before = path.read_bytes()
    project.problems(name)
    assert path.read_bytes() == before


def test_math_500(project):
    rows = project.problems("math-500")
    assert [(row["problem_id"], row["ground_truth"]) for row in rows] == [(i, a) for i, _, a in MATH_500]
    assert [text_of(row["prompt"]) for row in rows] == [p + INSTRUCTION for _, p, _ in MATH_500]
    assert {(row["answer_type"], row["unit"], row["tolerance"]) for row in rows} == {("expression", "", None)}


@pytest.mark.parametrize(("name", "answers"), [("aime24", ["204", "25", "0"]), ("aime25", ["70", "588"])])
def test_aime_has_no_leading_zeros(project, name, answers):
    rows = project.problems(name)
    assert [row["ground_truth"] for row in rows] == answers
    assert {row["answer_type"] for row in rows} == {"numerical"}
    assert [row["problem_id"] for row in rows] == [str(i) for i, *_ in {"aime24": AIME_24, "aime25": AIME_25}[name]]


def test_amc_has_whole_numbers_where_its_floats_are_whole(project):
    assert [row["ground_truth"] for row in project.problems("amc23")] == ["27", "36", "0.5"]
    as_text = [{"id": i, "answer": str(a), "url": "u", "question": q} for i, q, a in AMC]
    as_parquet(project.raw / "amc23/test-00000-of-00001.parquet", as_text)
    (project.root / "config/pins.yaml").unlink()
    assert [row["ground_truth"] for row in project.problems("amc23")] == ["27", "36", "0.5"]


def test_olympiadbench(project, capsys):
    rows = project.problems("olympiadbench")
    for row, (raw, (answer, kind, unit, tolerance)) in zip(rows, OLYMPIAD, strict=True):
        assert row["problem_id"] == str(raw["id"])
        expected = raw["final_answer"][0] if answer is ... else answer
        assert (row["ground_truth"], row["answer_type"], row["unit"], row["tolerance"]) == (
            expected,
            kind,
            unit,
            tolerance,
        )
    assert text_of(rows[-1]["prompt"]) == "A line.\nProblem 1643?" + INSTRUCTION
    assert list(about(project.root / "out/olympiadbench.parquet")["remarks"]) == ["1642"]
    printed = capsys.readouterr().out
    assert "licence: CC-BY-NC-4.0" in printed
    assert "problem 1642: error is '0.1,0.01'" in printed


def test_math_train(project, capsys):
    rows = {row["problem_id"]: row for row in project.problems("math-train")}
    assert [rows[f"algebra/{i}"]["ground_truth"] for i in range(len(BOXES))] == [answer for _, answer in BOXES]
    primes = [f"number_theory/{len(BOXES) + i}" for i in range(2)]
    assert [rows[identity]["ground_truth"] for identity in primes] == ["0", "0"]
    assert about(project.root / "out/math-train.parquet")["corrected"] == dict.fromkeys(primes, "0")
    assert f"problem {primes[0]}: has no answer in the source, and is given 0" in capsys.readouterr().out
    subjects = [identity.partition("/")[0] for identity in rows]
    assert list(dict.fromkeys(subjects)) == sorted(set(subjects))


@pytest.mark.parametrize(("text", "answer"), BOXES)
def test_the_last_box(text, answer):
    assert last_boxed(text) == answer


@pytest.mark.parametrize("text", ["", "no box", r"$\boxed{1", r"\boxedx{1}"])
def test_no_box(text):
    assert last_boxed(text) is None


# -- nothing is left out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("there", "expected"), [(5, 500), (5, 4)])
def test_another_number_of_problems_is_an_error_with_both(project, there, expected):
    project.set("math-500", problems=expected)
    text = project.fails("math-500")
    assert text.startswith(f"math-500: {expected} problems were expected, {there} are in {project.raw}/math-500")


def replace_rows(project, name, file, change):
    path = project.raw / name / file
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows), path)


OLYMPIAD_FILE = "OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet"
BROKEN = {
    "no correction": (
        "math-train",
        {"corrections": None},
        None,
        ["2 without an answer: number_theory/9, number_theory/10"],
    ),
    "needless correction": (
        "math-train",
        {"corrections": [{"question": "algebra 1", "answer": "5"}]},
        None,
        ["math-train, problem algebra/1: has the answer", "correction"],
    ),
    "correction of nothing": (
        "math-train",
        {"corrections": [{"question": "zoology", "answer": "5"}]},
        None,
        ["a correction must fit one question, 'zoology' fits 0"],
    ),
    "empty list": ("olympiadbench", {}, (OLYMPIAD_FILE, 0, {"final_answer": []}), ["1 without an answer: 1606"]),
    "half a list": (
        "olympiadbench",
        {},
        (OLYMPIAD_FILE, 6, {"final_answer": ["1", ""]}),
        ["olympiadbench, problem 1631: expected answers, found ['1', '']"],
    ),
    "no list": (
        "olympiadbench",
        {},
        (OLYMPIAD_FILE, None, {"final_answer": "2"}),
        ["expected a list of answers, found '2'"],
    ),
    "type": (
        "olympiadbench",
        {},
        (OLYMPIAD_FILE, 2, {"answer_type": "Need_human_evaluate"}),
        ["problem 1613: answer_type: expected some of Numerical", "'Need_human_evaluate'"],
    ),
    "tolerance": (
        "olympiadbench",
        {},
        (OLYMPIAD_FILE, 0, {"error": "small"}),
        ["problem 1606: error: expected numbers, found 'small'"],
    ),
    "picture": (
        "olympiadbench",
        {},
        (OLYMPIAD_FILE, None, {"image_1": "png"}),
        ["problem 1606: has a picture (image_1)"],
    ),
    "no question": (
        "amc23",
        {},
        ("test-00000-of-00001.parquet", 1, {"question": " "}),
        ["amc23, problem 1: question is empty"],
    ),
    "no answer": (
        "amc23",
        {},
        ("test-00000-of-00001.parquet", 1, {"answer": None}),
        ["amc23: 1 without an answer: 1;"],
    ),
    "same id": (
        "amc23",
        {},
        ("test-00000-of-00001.parquet", 1, {"id": 0}),
        ["amc23: 1 identifiers are used more than once, the first is '0'"],
    ),
    "other column": (
        "aime24",
        {"content": "columns"},
        None,
        ["aime24, problem 60: there is no column 'reply', only id, problem, solution, answer, url, year"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_an_error_that_names_it(project, case):
    name, settings, change, said = BROKEN[case]
    if settings.get("content") == "columns":
        content = project.source(name)["content"]["value"]
        settings = {"content": content | {"columns": content["columns"] | {"answer": "reply"}}}
    project.set(name, **settings)
    if change:
        file, index, values = change

        def spoil(rows):
            for row in rows if index is None else [rows[index]]:
                row.update(values)

        replace_rows(project, name, file, spoil)
    text = project.fails(name)
    for fragment in said:
        assert fragment in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"problem": "p"\n', "test.jsonl, line 1: not JSON"),
        ('{"problem": "p", "answer": "1", "id": "1"}\n\n[1]\n', "test.jsonl, line 3: expected an object, found list"),
        ('{"problem": "p", "answer": {}, "id": "1"}\n', "aime25, problem 1: expected an answer, found {}"),
        ('{"problem": "p", "answer": true, "id": "1"}\n', "aime25, problem 1: expected an answer, found True"),
        ('{"problem": "p", "answer": "1", "id": null}\n', "test.jsonl, row 0: id is empty"),
    ],
)
def test_a_broken_jsonl_names_the_line(project, content, said):
    (project.raw / "aime25/test.jsonl").write_text(content)
    assert said in project.fails("aime25")


def test_a_broken_parquet_is_one_line(project):
    (project.raw / "aime24/data/train-00000-of-00001.parquet").write_bytes(b"PAR1")
    assert "train-00000-of-00001.parquet: not a readable parquet file" in project.fails("aime24")


def test_files_that_changed_after_they_were_fetched(project):
    project.problems("aime25")
    file = project.raw / "aime25/test.jsonl"
    file.write_text(file.read_text().replace("588", "589"))
    settings = project.study().benchmarks["aime25"].settings
    with pytest.raises(ValueError, match=f"{file}: its sha256 is .* fetch again"):
        write_fetched(settings, project.raw / "aime25.yaml", project.root / "x.parquet")
    with pytest.raises(ValueError, match=r"its revision is 563bb.* but 0000.* is wanted: fetch again"):
        write_fetched(settings | {"revision": "0" * 40}, project.raw / "aime25.yaml", project.root / "x.parquet")
    file.unlink()
    with pytest.raises(ValueError, match=f"{file}: there is no such file: fetch again"):
        write_fetched(settings, project.raw / "aime25.yaml", project.root / "x.parquet")
    with pytest.raises(
        ValueError, match=r"none\.yaml: there is no such file; expected the record that `asymgrpo fetch`"
    ):
        write_fetched(settings, project.raw / "none.yaml", project.root / "x.parquet")


def test_a_scale_may_use_fewer_problems_of_a_set_whose_number_stays_asserted(project):
    scale = project.read("scales/sets")
    scale["evaluation"]["max_problems"] = {"value": 3, "provenance": "ours", "note": "a test"}
    project.write("scales/sets", scale)
    assert [row["problem_id"] for row in project.problems("math-500")] == [MATH_500[i][0] for i in (0, 1, 3)]
    assert {key: about(project.root / "out/math-500.parquet")[key] for key in ("problems", "used")} == {
        "problems": 5,
        "used": 3,
    }
    assert len(project.problems("aime25")) == 2  # has no more
    project.set("math-500", problems=6)
    assert "6 problems were expected, 5 are in" in project.fails("math-500")


def test_spread():
    assert spread(5, None) == spread(5, 5) == spread(5, 9) == [0, 1, 2, 3, 4]
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(674, 100)[-1] == 667


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_by_hand_on_the_command_line(project, capsys):
    for name in SETS:
        assert main(["fetch", "--root", str(project.root), "--scale", "sets", name]) == 0
    assert (
        "HuggingFaceH4/MATH-500, revision 6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be; licence: MIT"
        in capsys.readouterr().out
    )
    settings = json.dumps(project.study().benchmarks["amc23"].settings)
    command = ["problems", "--kind", "benchmark", "--settings", settings, "--out", str(project.root / "amc23.parquet")]
    assert main([*command, "--record", str(project.raw / "amc23.yaml")]) == 0
    assert records.read(project.root / "amc23.parquet", records.BENCHMARK).num_rows == 3
    assert main(command) == 1
    assert "--record: is missing" in capsys.readouterr().err
    assert main(["fetch", "--root", str(project.root), "--scale", "sets", "amc24"]) == 1
    assert (
        "amc24: is not fetched at scale sets; expected one of math-train, math-500, aime24" in capsys.readouterr().err
    )


# -- train and test ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Find  $\\dfrac{1}{2}$ of  X.", "find $\\frac12$ of x", False),
        ("Find  $\\dfrac{1}{2}$ of  X.", "find \\(\\tfrac{1}{2}\\) of x", True),
        ("Find  $\\dfrac{1}{2}$ of  X.", "Find\n$\\frac{1}{2}$ of x", True),
        ("$\\left( 1,\\! 000 \\right)$ is?", "$(1,000)$ is", True),
        ("What is 2.5?", "What is 25?", False),
        ("(1,2)", "(12)", False),
        ("\uff41\uff42", "ab", True),
    ],
)
def test_the_same_text(one, other, same):
    assert (normalised(one) == normalised(other)) is same


def test_overlap_of_training_and_benchmarks(project, tmp_path):
    rows = project.problems("math-500")
    train = project.problems("math-train")
    prompt = about(project.root / "out/math-500.parquet")["prompt"]
    shared = text_of(rows[2]["prompt"]).removesuffix(prompt.removeprefix("{question}"))
    # of a set with a prompt of its own
    for row in train:
        row["prompt"] = as_messages(f"Question: {text_of(row['prompt'])}\nAnswer:")
    train[4]["prompt"] = as_messages(f"Question: {shared.upper().replace('RAN', '  ran')}\nAnswer:")
    write(tmp_path / "train.parquet", train, {"prompt": "Question: {question}\nAnswer:"})
    project.problems("aime25")
    files = {name: project.root / "out" / f"{name}.parquet" for name in ("math-500", "aime25")}
    found = overlap(tmp_path / "train.parquet", files)
    assert found == [Overlap("math-500", 5, 1, ("test/prealgebra/1622.json",)), Overlap("aime25", 2, 0, ())]
    write_overlap(found, tmp_path / "deep/overlap.csv")
    assert read_overlap(tmp_path / "deep/overlap.csv") == found
    assert (tmp_path / "deep/overlap.csv").read_text().splitlines() == [
        "benchmark,problems,trained_on,problem_ids",
        "math-500,5,1,test/prealgebra/1622.json",
        "aime25,2,0,",
    ]


def test_overlap_on_the_command_line(small, tmp_path, capsys):
    out = tmp_path / "overlap.csv"
    command = ["overlap", "--problems", str(small.problems), "--benchmarks", *map(str, small.benchmarks.values())]
    assert main([*command, "--out", str(out)]) == 0
    assert [(row.benchmark, row.trained_on) for row in read_overlap(out)] == [("easy", 8), ("hard", 0)]
    assert "easy: 8 of 8 problems are trained on" in capsys.readouterr().out


# -- long prompts -----------------------------------------------------------------------------------------------------

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% if enable_thinking is false %}<think> </think>{% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="?", bos_token="<s>")
    made.chat_template = TEMPLATE
    return made


def test_prompts_are_as_long_as_the_policy_sees_them(tokenizer):
    prompts = [as_messages(text) for text in ("one two", "one", "one two three four")]
    assert lengths.prompt_lengths(prompts, tokenizer) == [5, 4, 7]
    assert lengths.prompt_lengths(prompts, tokenizer, enable_thinking=False) == [7, 6, 9]
    assert lengths.overlong(prompts, tokenizer, 5) == [(2, 7)]
    assert lengths.overlong(prompts, tokenizer, 6, enable_thinking=False) == [(0, 7), (2, 9)]
    assert lengths.overlong([], tokenizer, 1) == []


# -- the configuration ------------------------------------------------------------------------------------------------


def test_the_scale_knows_what_it_fetches(project):
    study = project.study()
    assert list(study.fetched_problems()) == ["math-train", *SETS]
    assert study.train_dataset.name == "math-train"
    assert not any(study.benchmarks[name].settings.get("max_problems") for name in SETS)
    assert study.raw_dir("aime24") == project.raw / "aime24"
    captions = study.assumed("table2")
    assert "repository of AIME 2025 = math-ai/aime25 (assumed)" in captions
    assert sum(caption.startswith("prompt of MATH-500, AIME 2024") for caption in captions) == 1


def test_the_papers_sets_are_all_there():
    """With the numbers of problems, and the names under which the paper's table reports them."""
    document = yaml.safe_load((ROOT / "config/benchmarks.yaml").read_text())
    stands_for = {name: entry.get("stands_for") for name, entry in document["benchmarks"].items() if "source" in entry}
    assert stands_for == dict(zip(SETS, ["MATH-500", "AIME24", "AIME25", "AMC23", "OlympiadBench"], strict=True))
    entries = document["benchmarks"] | document["datasets"]
    problems = {name: entries[name]["source"]["problems"]["value"] for name in [*SETS, "math-train"]}
    assert problems == dict(zip(problems, [500, 30, 30, 40, 674, 7500], strict=True))
    for name in problems:
        source = entries[name]["source"]
        assert len(source["revision"]["value"]) == 40
        assert source["licence"]["note"]
        assert len(source["content"]["value"]["files"]) == (7 if name == "math-train" else 1)


MISTAKES = [
    ("benchmarks aime24 source revision value", "main", ["aime24.source.revision.value", "a full commit hash, 40 of"]),
    ("benchmarks aime24 source repository value", "aime", ["source.repository.value", "owner/name"]),
    ("benchmarks aime24 source licence", None, ["benchmarks.aime24.source.licence: is missing"]),
    ("benchmarks aime24 source problems value", 0, ["problems.value: found the number 0", "at least 1"]),
    ("benchmarks aime24 source content value reader", "latex", ["reader: found the text 'latex'", "answer, boxed"]),
    ("benchmarks aime24 source content value answer_type", None, ["value.answer_type: is missing"]),
    (
        "benchmarks olympiadbench source content value answer_type",
        "tuple",
        ["answer_type: is given", "answer and boxed"],
    ),
    ("benchmarks aime24 source content value files", {"../x.jsonl": None}, ["the name '../x.jsonl' cannot be used"]),
    (
        "benchmarks aime24 source content value files",
        {"x.pkl": None},
        ["the name 'x.pkl' cannot be used"],
    ),
    ("benchmarks aime24 source content value files", {"x.jsonl": "12"}, ["found the text '12'", "a sha256, 64 of"]),
    ("benchmarks aime24 source content value columns", {"question": "q"}, ["columns.answer: is missing"]),
    ("benchmarks aime24 source", None, ["benchmarks.aime24: has no problems; expected either `generator` or `source`"]),
    (
        "benchmarks aime24 generator",
        {"value": {"numbers": 3}, "provenance": "ours", "note": "a test"},
        ["benchmarks.aime24: has a generator and a source"],
    ),
    (
        "benchmarks countdown-3 prompt",
        {"value": "{question}", "provenance": "ours", "note": "a test"},
        ["benchmarks.countdown-3.prompt: is given; expected it only with `source`"],
    ),
    (
        "defaults prompt value",
        "Think.",
        ["defaults.prompt.value: found the text 'Think.'", "{question}"],
    ),
    ("datasets math-train source corrections value", [], ["corrections.value: found an empty list"]),
    ("datasets aime24", "as math-train", ["datasets.aime24: is a benchmark too; expected a name of its own"]),
]


@pytest.mark.parametrize(("keys", "value", "said"), MISTAKES)
def test_a_mistake_is_one_line_that_names_file_key_and_expectation(project, keys, value, said):
    document = project.read("benchmarks")
    *way, last = keys.split()
    place = document
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = document["datasets"]["math-train"] if value == "as math-train" else value
    project.write("benchmarks", document)
    with pytest.raises(ConfigError) as caught:
        project.study()
    text = str(caught.value)
    assert text.startswith("config/benchmarks.yaml: ")
    assert "\n" not in text
    for fragment in said:
        assert fragment in text


def test_a_prompt_of_its_own(project):
    document = project.read("benchmarks")
    document["benchmarks"]["aime25"]["prompt"] = {"value": "{question} Answer:", "provenance": "ours", "note": "a test"}
    project.write("benchmarks", document)
    assert text_of(project.problems("aime25")[0]["prompt"]) == AIME_25[0][1] + " Answer:"
