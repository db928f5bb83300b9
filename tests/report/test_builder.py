"""The report without a browser: what is collected, and that text stays text."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from asymgrpo import cli, records, report
from asymgrpo.analysis import curves as analysis
from asymgrpo.analysis import runs as files
from asymgrpo.config import Run
from asymgrpo.report import claims, curves, markup, page, responses, untrusted, vector
from asymgrpo.report.collect import collect
from asymgrpo.report.tints import tint

from .example import HARM, TABLE, example_at

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def text(page_file):
    return page_file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(example):
    return collect(example)


def copied(study, root):
    """The same study with a copy of its files."""
    shutil.copytree(study.root, root / "copy")
    return replace(study, root=root / "copy")


def data(text, name):
    found = re.search(rf'<script type="application/octet-stream" id="data-{name}">([^<]*)</script>', text)
    return page.unpacked(found[1])


class Elements(HTMLParser):
    """Every element of a page with its attributes, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, {name: value or "" for name, value in attributes}))


# -- the file ---------------------------------------------------------------------------------------------------------


def test_the_same_files_give_the_same_bytes_in_another_process(example, page_file):
    first = page_file.read_bytes()
    code = (
        "import sys; from pathlib import Path; from asymgrpo import report;"
        "from tests.report.example import example_at;"
        "report.make(example_at(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    again = example.root / "again.html"
    command = [sys.executable, "-c", code, str(example.root), str(again)]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"})
    assert again.read_bytes() == first


def test_nothing_outside_the_file_is_named(text):
    without_data = re.sub(r'"data:image/svg[^"]*"', "", text)
    # uPlot's licence line and the namespaces of SVG and MathML are names, not addresses that anything reads
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", without_data))
    assert addresses == {
        "https://github.com/leeoniya/uPlot",
        "http://www.w3.org/1998/Math/MathML",
        "http://www.w3.org/2000/svg",
    }


def test_the_policy_lets_only_the_files_own_scripts_run(text):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == len(page.SCRIPTS)
    assert rules["script-src"].split() == [page._hash(script) for script in scripts]
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert rules["style-src"].split() == [page._hash(style) for style in styles]


def test_elements_have_no_code_and_no_address(text):
    elements = Elements(text).found
    assert len(elements) > 500
    for tag, attributes in elements:
        assert tag not in ("iframe", "object", "embed", "form", "base"), tag
        assert not [name for name in attributes if name == "style" or name.startswith("on")], (tag, attributes)
        for name in ("href", "src", "action", "srcset"):
            value = attributes.get(name, "#")
            assert value.startswith("#") or (tag, value[:5]) in (("img", "data:"), ("link", "data:")), (tag, value[:80])


def test_no_text_of_a_run_is_markup(text):
    body = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    assert "window.harmed" in body  # the claims' titles and the table, escaped
    assert "<script" not in body
    assert "<b>processor" not in body
    assert "<b>method" not in body
    assert "javascript:alert(1)" in body  # as text
    assert not re.search(r"<a [^>]*javascript", body)


def test_data_cannot_end_its_element():
    harm = {"text": "</script><script>alert(1)</script>\u2028\u2029<!--", "more": list(HARM.values())}
    packed = page.packed(harm)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed)
    assert page.unpacked(packed) == harm
    with pytest.raises(ValueError, match="JSON"):
        page.packed([float("nan")])


def test_a_script_that_would_end_its_element_is_refused(tmp_path, monkeypatch):
    (tmp_path / "bad.js").write_text("const x = '</SCRIPT>';")
    monkeypatch.setattr(page, "ASSETS", tmp_path)
    with pytest.raises(ValueError, match=r"bad\.js: holds the end of its own element"):
        page._asset("bad.js")


def test_the_library_is_the_published_one():
    found = (page.ASSETS / "vendor" / "README.md").read_text()
    from hashlib import sha256

    for name in ("uPlot-1.6.32.min.js", "uPlot-1.6.32.min.css", "uPlot-LICENSE"):
        assert sha256((page.ASSETS / "vendor" / name).read_bytes()).hexdigest() in found


# -- the content ------------------------------------------------------------------------------------------------------


def test_the_facts_are_those_of_the_runs(example, found, text):
    runs = example.runs()
    seconds = sum(example.spec(run)["steps"] * 0.125 * 4 for run in runs)
    assert found.facts["runs"] == found.facts["planned"] == len(runs)
    assert found.facts["methods"] == len({run.method for run in runs})
    assert found.facts["hours"]["cpu"] == pytest.approx(seconds / 3600)
    assert found.facts["hours"]["gpu"] == 0
    assert found.facts["date"] == f"2026-01-0{max(example.seeds)}"
    assert "<code>c0ffee0000</code>" in text
    scores = list(example.root.rglob("*.scores.parquet"))
    assert found.facts["scored"] == sum(records.read(file, records.SCORES).num_rows for file in scores)


def test_every_run_has_its_settings_with_provenance(example, text):
    runs = data(text, "runs")
    assert [(run["backbone"], run["method"], run["seed"]) for run in runs] == [tuple(run) for run in example.runs()]
    wanted = example.provenance(Run(runs[0]["backbone"], runs[0]["method"], runs[0]["seed"]))
    assert [row[0] for row in runs[0]["settings"]] == list(wanted)
    assert [row[2] for row in runs[0]["settings"]] == [one["provenance"] for one in wanted.values()]
    for run in runs:
        assert f'href="#run/{run["backbone"]}/{run["method"]}/seed-{run["seed"]}"' in text


def test_curves_are_the_means_over_seeds(example, text):
    panels = {panel["quantity"]: panel for panel in data(text, "curves")}
    method, backbone = "reinforce", example.primary
    steps = files.steps(example, [Run(backbone, method, seed) for seed in example.seeds])
    drawn = analysis.curves(steps, "entropy", curves.smoothing_of(example))
    found = panels["entropy"]["backbones"][backbone]
    assert found["steps"] == list(drawn["step"])
    assert found["methods"][method]["smooth"][0] == pytest.approx(list(drawn["mean"]), rel=1e-3)
    assert found["methods"][method]["raw"][0] == pytest.approx(list(steps.groupby("step")["entropy"].mean()), rel=1e-3)
    assert set(found["methods"]) == {run.method for run in example.runs() if run.backbone == backbone}


def test_long_curves_are_thinned_and_keep_their_last_step():
    kept = curves._thinned(list(range(1, 1001)))
    assert len(kept) <= curves.MOST_POINTS
    assert kept[-1] == 1000
    assert curves._thinned([0, 10, 20]) == [0, 10, 20]


def test_figures_have_their_captions_and_a_size(found, text):
    assert [figure.name for figure in found.figures] == ["fig1", "fig2"]
    for figure in found.figures:
        assert figure.picture.address.startswith("data:image/svg+xml")
        assert figure.picture.width > 300
        assert figure.title.startswith("Figure ")
        assert "Scale" in figure.made
        assert f'id="figure-{figure.name}"' in text
    assert "<math" in found.figures[0].caption  # its formulas


def test_a_figure_without_svg_is_shown_as_png(example):
    picture = vector.picture(example.figure_stem("fig1"))
    moved = example.figure_stem("fig1").with_suffix(".svg")
    kept = moved.read_bytes()
    moved.unlink()
    try:
        png = vector.picture(example.figure_stem("fig1"))
    finally:
        moved.write_bytes(kept)
    assert png.address.startswith("data:image/png;base64,")
    assert png.width / png.height == pytest.approx(picture.width / picture.height, rel=0.05)
    assert vector.picture(example.figure_stem("no-such")) is None


def test_a_smaller_svg_has_the_same_text_and_is_well_formed(example):
    from xml.etree import ElementTree

    svg = example.figure_stem("fig2").with_suffix(".svg").read_text()
    small = vector.shrink(svg)
    assert len(small) < 0.95 * len(svg)

    def scales(text):
        return re.findall(r"scale\([^)]*\)", text)

    assert scales(small) == scales(svg)  # sizes of letters are kept to the last digit
    assert len(list(ElementTree.fromstring(small).iter())) >= 0.9 * len(list(ElementTree.fromstring(svg).iter()))


def test_what_is_not_there_is_said(example, tmp_path):
    study = copied(example, tmp_path)
    gone = study.runs()[-1]
    (study.runs_dir(gone) / "run.yaml").unlink()
    study.table_stem("claims").with_suffix(".json").unlink()
    found = collect(study)
    assert found.claims is None
    assert f"run {gone.backbone}/{gone.method}/seed-{gone.seed}" in found.missing
    assert "figure fig3" in found.missing
    assert "table table1" in found.missing
    assert "The verdicts on the claims have not been made yet" in page.render(found)


def test_nothing_there_is_an_error_with_the_command(tmp_path):
    with pytest.raises(ValueError, match="nothing is there to report; make it with: snakemake --config scale=tiny"):
        report.make(example_at(tmp_path))


def test_a_broken_file_is_named(example, tmp_path):
    study = copied(example, tmp_path)
    path = study.table_stem("claims").with_suffix(".json")
    path.write_text("{")
    with pytest.raises(ValueError, match=r"claims\.json: is not JSON"):
        collect(study)
    path.write_text(json.dumps({"claims": [{"claim": "1", "verdict": "true", "statements": []}]}))
    with pytest.raises(ValueError, match="1: verdict 'true'; expected one of reproduced"):
        claims.read(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="claims: is missing"):
        claims.read(path)


def test_the_command_writes_where_it_is_told(tmp_path, capsys, monkeypatch, example):
    monkeypatch.setattr(cli, "load", lambda *_: example)
    assert cli.main(["report", "--scale", "tiny", "--out", str(tmp_path / "a" / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a" / "page.html")
    assert (tmp_path / "a" / "page.html").read_text().startswith("<!DOCTYPE html>")


# -- claims -----------------------------------------------------------------------------------------------------------


def test_intervals_of_one_unit_share_an_axis_with_zero():
    rows = [
        {"unit": "nats", "effect": 1.0, "low": 0.5, "high": 3.0, "threshold": 0.0},
        {"unit": "nats", "effect": -1.0, "low": None, "high": None, "threshold": 0.5},
        {"unit": "points", "effect": 50.0, "low": 40.0, "high": 60.0},
        {"unit": "nats", "effect": None},
    ]
    first, second, third, none = claims.bars(rows)
    assert none is None
    assert first.zero == second.zero
    assert second.effect < second.zero < first.low < first.effect < first.high
    assert second.low == second.effect == second.high
    assert first.thresholds == ()
    assert second.zero < second.thresholds[0] < first.effect
    assert third.zero == 4  # the left end
    assert third.high == 96
    (close,) = claims.bars([{"unit": "points", "effect": 1.0, "threshold": 2.0, "direction": "="}])
    assert close.thresholds[0] < close.zero < close.effect < close.thresholds[1]
    assert claims.tally([{"verdict": "inconclusive"}] * 2) == [("inconclusive", "inconclusive", 2)]


# -- text -------------------------------------------------------------------------------------------------------------


def test_characters_that_cannot_be_seen_are_written_out():
    found = untrusted.pieces("a\u202eb\u2028\x00\t\nc\ue000\u200d")
    assert found == [
        "a", ["c", "U+202E", "RIGHT-TO-LEFT OVERRIDE"], "b", ["c", "U+2028", "LINE SEPARATOR"],
        ["c", "U+0000", "control character"], "\t\nc", ["c", "U+E000", "control character"],
        ["c", "U+200D", "ZERO WIDTH JOINER"],
    ]  # fmt: skip
    assert untrusted.pieces("naïve 数学 α ≤ 3") == ["naïve 数学 α ≤ 3"]
    assert untrusted.visible("a\u202eb") == "a[U+202E]b"


def formulas(text):
    return [piece for piece in untrusted.pieces(text) if isinstance(piece, list) and piece[0] == "m"]


def test_mathematics_is_made_of_known_elements_only():
    def nodes(tree):
        yield tree
        for child in tree[3]:
            yield from nodes(child)

    for _, tree, source in formulas(HARM["math"]):
        for tag, attributes, _, _ in nodes(tree):
            assert tag in untrusted.TAGS, source
            assert set(attributes) <= set(untrusted.ATTRIBUTES), source
    assert len(formulas(HARM["math"])) == 3
    [[_, tree, _]] = formulas(r"$\frac{1}{2} \times x$")
    assert tree[0] == "math"
    assert "×" in [text for _, _, text, _ in nodes(tree)]
    [[_, tree, _]] = formulas(r"$a \hspace{9999em} \phantom{hidden} b$")
    assert not any("width" in attributes for _, attributes, _, _ in nodes(tree))
    assert "h" in "".join(text for _, _, text, _ in nodes(tree))  # what would be invisible is shown


def test_what_is_no_mathematics_stays_text():
    for text in (r"costs $5 and $6", "$" + "x" * 500 + "$", r"\[" * 3000, "$a\u202eb$", r"$\frac$"):
        assert formulas(text) == [], text[:20]
        shown = "".join(piece if isinstance(piece, str) else "" for piece in untrusted.pieces(text))
        assert shown[:2] == text[:2]
    deep = "$" + "{" * 150 + "x" + "}" * 150 + "$"
    assert formulas(deep) == [] or formulas(deep)[0][0] == "m"


def test_long_text_is_cut_and_says_so():
    found = untrusted.pieces("x" * 5000)
    assert found == ["x" * untrusted.LONGEST, ["c", "… 1,000 more characters", "left out of the report"]]


def test_solutions_of_countdown_are_equations():
    found = untrusted.countdown_pieces("8 * 9 72 72 - 8 61")
    assert [piece[2] for piece in found if isinstance(piece, list)] == ["8 * 9 72", "72 - 8 61"]
    for other in ("8 * 9", "8 * 9 72 <b>", "", "x 8 * 9 72"):
        assert untrusted.countdown_pieces(other) == untrusted.pieces(other)


# -- responses --------------------------------------------------------------------------------------------------------


def test_responses_are_chosen_by_the_rule(example, text):
    shown = data(text, "responses")
    decoding = example.artefact("table2").decodings[0]
    for run in responses.of_first_seed(example):
        for benchmark in example.benchmarks:
            frame = records.read(
                example.evaluation_dir(run) / f"{benchmark}.scores.parquet", records.SCORES
            ).to_pandas()
            frame = frame[(frame["decoding"] == decoding) & (frame["checkpoint"] == "last")]
            frame["order"] = [responses.order(*key) for key in zip(frame["problem_id"], frame["sample"], strict=True)]
            frame = frame.sort_values("order")
            wanted = pd.concat([frame[frame["correct"]].head(2), frame[~frame["correct"]].head(2)])
            key = {"backbone": run.backbone, "method": run.method, "benchmark": benchmark}
            found = [row for row in shown if row.items() >= key.items()]

            assert [row["correct"] for row in found] == list(wanted["correct"])
            assert [row["problem"][0] for row in found] == list(wanted["problem_id"])
    assert {row["method"] for row in shown} >= {"base", "grpo", "asymgrpo"}
    assert "SHA-256" in text


def test_only_the_first_seed_and_its_start_are_shown(example):
    runs = responses.of_first_seed(replace(example, seeds=(3, 1)))
    assert {run.seed for run in runs if run.method != "base"} == {3}
    assert {run.seed for run in runs if run.method == "base"} == {example.start_seed(example.primary, 3)}


# -- markdown ---------------------------------------------------------------------------------------------------------


def test_tables_are_read_as_they_were_written():
    [table] = markup.tables(TABLE)
    assert str(table.title).startswith("A table &amp; its <math")
    assert "&lt;b&gt;method" in table.title
    assert [[str(line) for line in head] for head in table.header] == [["Method"], ["Score", "n = 2"], ["Note"]]
    assert table.left == 1
    assert "<a" not in "".join(str(cell) for row in table.rows for cell in row)
    assert table.notes == ["A note with <code>code</code>."]


def test_captions_have_a_title_what_is_shown_and_how_it_was_made():
    title, shown, made = markup.caption(
        "**Figure 9. On $\\beta$.** It shows $a_1$ and $b_2$ <i>x</i>.\n\nSeeds 1.\n\nAssumed."
    )
    assert title == "Figure 9. On $\\beta$"
    assert str(shown).count("<math") == 2
    assert "&lt;i&gt;" in shown
    assert str(made) == "<p>Seeds 1.</p>\n<p>Assumed.</p>\n"
    assert markup.caption("No title.")[0] == ""


def test_cells_of_the_reported_table_are_coloured_by_agreement(text):
    cells = ("1; 2 [0, 3]: sign agrees", "1; 2: sign differs", "1; 2: outside", "1; 2: undecided")
    assert [tint(cell) for cell in cells] == ["good", "bad", "bad", "open"]
    assert tint("56.50; 25.0; reference") == tint("GRPO") == ""
    assert 'class="number tint good"' in text
    assert 'class="number tint bad"' in text
