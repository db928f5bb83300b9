"""Figures are pure functions of run files: drawn here from small run directories that this file writes."""

import dataclasses
import importlib
import os
import shutil
import subprocess
import sys
import warnings
import zlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from asymgrpo import records
from asymgrpo.config import BASE, Run, Study, load
from asymgrpo.figures import FIGURES, files_of, make, style
from asymgrpo.tables import make as make_table
from asymgrpo.tables.table2 import REPORTED

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_RUNS = ("fig1", "prop1_tabular", "prop2")
ARTEFACT_OF = {"prop1_tabular": "prop1", "power": "claims"}


def study_at(root: Path, scale: str = "tiny", **overrides) -> Study:
    """The repository's own configuration, with its files under another root."""
    return dataclasses.replace(load(ROOT, {"scale": scale, **overrides}), root=root)


def generator(*key) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def write_run(study: Study, run: Run) -> None:
    """A run directory with curves of a plausible shape; every method has its own levels."""
    spec, rng, level = study.spec(run), generator(*run), generator(run.backbone, run.method).random()
    count, groups, size = spec["steps"], spec["rollout"]["prompts_per_step"], spec["rollout"]["group_size"]
    where, step_rows, group_rows = study.runs_dir(run), [], []
    for step in range(1, count + 1):
        progress = step / count
        p = rng.binomial(size, 0.3 + 0.3 * progress + 0.1 * level, groups)
        entropy = 0.6 - (0.3 + 0.15 * level) * progress + rng.normal(scale=0.01)
        mixed = (p > 0) & (p < size)
        gap = rng.normal(0.1, 0.05, groups)
        step_rows.append(
            {name: 0.0 for name in records.STEPS.names if name not in ("group_accuracy_histogram",)}
            | {
                "step": step,
                "reward": p.mean() / size,
                "group_accuracy": p.mean() / size,
                "group_accuracy_histogram": np.bincount(p, minlength=size + 1).tolist(),
                "none_solved": float((p == 0).mean()),
                "all_solved": float((p == size).mean()),
                "mixed": float(mixed.mean()),
                "n_groups": groups,
                "n_mixed": int(mixed.sum()),
                "entropy": entropy,
                "entropy_after": entropy - 0.01 * level + rng.normal(scale=0.002),
                "alpha": 0.02 + rng.normal(scale=0.01),
                "logprob_gain_correct": 0.05 + 0.03 * level + rng.normal(scale=0.01),
                "tokens": groups * size * 9,
            }
        )
        for problem in range(groups):
            k = int(p[problem])
            group_rows.append(
                {
                    "step": step,
                    "problem": problem,
                    "rollouts": size,
                    "correct": k,
                    "confidence_correct": -0.2 if k else float("nan"),
                    "confidence_wrong": -0.2 - gap[problem] if k < size else float("nan"),
                }
            )
    records.write(where / "steps.parquet", step_rows, records.STEPS)
    records.write(where / "groups.parquet", group_rows, records.GROUPS)
    evaluation_rows = []
    for step in range(0, count + 1, spec["evaluation"]["every"]):
        for position, benchmark in enumerate(spec["evaluation"]["benchmarks"]):
            correct = int(rng.binomial(200, 0.7 - 0.1 * position - (0.3 - 0.1 * level) * (1 - step / count)))
            evaluation_rows.append(
                {
                    "step": step,
                    "benchmark": benchmark,
                    "decoding": "greedy",
                    "problems": 200,
                    "samples": 1,
                    "correct": correct,
                    "accuracy": correct / 200,
                    "response_length": 9.0,
                }
            )
    records.write(where / "evaluations.parquet", evaluation_rows, records.EVALUATIONS)


def write_scores(study: Study, run: Run, problems: int) -> None:
    """Final scores: decodings and checkpoints as the scale has them; the untrained policy has only ``last``."""
    level = generator(run.backbone, run.method).random()
    for position, benchmark in enumerate(study.benchmarks):
        rows = []
        chance = generator(benchmark).beta(2, 2 + position, problems) * (0.8 + 0.2 * level)
        for decoding, how in study.settings["evaluation"]["final"].items():
            for checkpoint in ["last"] if run.method == BASE else how["checkpoints"]:
                rng = generator(*run, benchmark, decoding, checkpoint)
                samples = how["samples"][benchmark] if isinstance(how["samples"], dict) else how["samples"]
                correct = rng.random((problems, samples)) < chance[:, None]
                for (problem, sample), right in np.ndenumerate(correct):
                    values = {
                        "checkpoint": checkpoint,
                        "decoding": decoding,
                        "problem_id": f"{problem:04d}",
                        "sample": sample,
                        "correct": bool(right),
                        "reason": "" if right else "wrong",
                        "tokens": 9,
                        "finish_reason": "stop",
                        "extracted": "1",
                    }
                    rows.append({name: values[name] for name in records.SCORES.names})
        records.write(study.evaluation_dir(run) / f"{benchmark}.scores.parquet", rows, records.SCORES)


def write_study(study: Study, problems: int = 20) -> Study:
    """Every file that the study's figures and tables read."""
    for run in study.runs():
        write_run(study, run)
        write_scores(study, run, problems)
    for backbone, seed in study.starts():
        write_scores(study, Run(backbone, BASE, seed), problems)
    return study


def with_verdicts(study: Study) -> Study:
    """With claims.json, which two figures show."""
    (study.root / REPORTED).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / REPORTED, study.root / REPORTED)
    make_table("claims", study)
    return study


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Study:
    return with_verdicts(write_study(study_at(tmp_path_factory.mktemp("figures"))))


@pytest.fixture(scope="module")
def drawn(written):
    return {name: drawing(name, written) for name in FIGURES}


def drawing(name: str, study: Study):
    with style.context():
        artefact = importlib.import_module(FIGURES[name]).draw(study)
        artefact.figure.draw_without_rendering()
    return artefact


def texts(figure):
    """Every text that is really drawn, with its box in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    hidden = set()
    for axes in figure.axes:
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted(limits)
            margin = 1e-6 * (high - low)
            for tick in axis.get_major_ticks():
                if not low - margin <= tick.get_loc() <= high + margin:
                    hidden |= {id(tick.label1), id(tick.label2)}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden:
            box = text.get_window_extent(renderer)
            if box.width and box.height:
                yield text.get_text(), box


def quick(study: Study) -> Study:
    """The same study with runs of 30 steps of 16 prompts, whose files are written quickly."""
    small = {"steps": 30, "prompts_per_step": 16, "prompts_per_minibatch": 8}

    def cut(settings):
        return {
            path: dataclasses.replace(setting, value=small[path[-1]])
            if "training" in path and path[-1] in small
            else setting
            for path, setting in settings.items()
        }

    backbones = {name: dataclasses.replace(b, settings=cut(b.settings)) for name, b in study.backbones.items()}
    return dataclasses.replace(study, scale_settings=cut(study.scale_settings), backbones=backbones)


@pytest.fixture(scope="module", params=["smoke", "paper"])
def other(request, tmp_path_factory) -> Study:
    """Scales of another shape: one backbone, few methods, a grid with a hole; three backbones, samples by benchmark."""
    study = study_at(tmp_path_factory.mktemp(request.param), request.param)
    return with_verdicts(write_study(quick(study) if request.param == "paper" else study, problems=5))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_comes_out_at_scales_of_another_shape(other, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        artefact = drawing(name, other)
    assert_no_text_is_clipped_or_overlaps(artefact.figure)
    shown = {(b, m) for b in other.backbones for m in other.methods_of(ARTEFACT_OF.get(name, name), b)}
    if name in ("fig2", "fig3", "fig4"):
        curves = artefact.data[artefact.data["quantity"] != "grid"]
        assert set(zip(curves["backbone"], curves["method"], strict=True)) == shown
    if name == "fig4":
        cells = artefact.data[artefact.data["quantity"] == "grid"]
        assert len(cells) == len(other.grid()) == {"smoke": 3, "paper": 16}[other.scale]
        assert ("outlined" in artefact.caption) == ("asymgrpo" in set(cells["method"]))
    if name == "prop1":
        drawn = artefact.data[artefact.data["quantity"] == "sum_measured"]
        assert drawn["step"].max() == drawn["step"].nunique() == other.settings["training"]["steps"]
    if name not in WITHOUT_RUNS:
        assert ("this scale runs only" in artefact.caption) == (other.scale == "smoke")
        assert "Qwen3-4B (Qwen3-4B" not in artefact.caption


def assert_no_text_is_clipped_or_overlaps(figure):
    found = list(texts(figure))
    assert len(found) > 10
    for text, box in found:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
        assert inside, f"{text!r} leaves the figure: {box}"
    for (first, a), (second, b) in combinations(found, 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert not (width > 1.5 and height > 1.5), f"{first!r} overlaps {second!r} by {width:.1f} x {height:.1f} pixels"


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_clipped_or_overlaps_another(drawn, name):
    assert_no_text_is_clipped_or_overlaps(drawn[name].figure)


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_legible_and_the_figure_has_the_papers_width(drawn, name):
    figure = drawn[name].figure
    assert figure.get_figwidth() == style.WIDTH
    assert figure.get_figheight() < (9 if name == "claims" else 5)  # a page, of a line for each statement
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()) >= 6


@pytest.mark.parametrize("name", FIGURES)
def test_caption_and_footnote_admit_what_is_assumed(drawn, written, name):
    if name == "prop1_tabular":
        return
    artefact = ARTEFACT_OF.get(name, name)
    for statement in written.assumed(artefact):
        assert statement.removesuffix(" (assumed)") in drawn[name].caption
    if written.assumed(artefact):
        assert any("Assumed" in text.get_text() for text in drawn[name].figure.texts)


def test_csv_holds_exactly_what_is_drawn(drawn, written):
    for name in ("fig2", "fig3", "fig4"):
        data = drawn[name].data
        for axes in drawn[name].figure.axes:
            for line in axes.lines:
                x, y = (np.asarray(values, dtype=float) for values in line.get_data())
                match = [
                    True
                    for _, part in data[data["quantity"] != "grid"].groupby(["quantity", "backbone", "method"])
                    if len(part) == len(x)
                    and np.allclose(part["step"], x)
                    and np.allclose(part["mean"], y, equal_nan=True)
                ]
                assert match, f"{name}: a line that is not in the CSV"
        seeds = {f"{kind}_seed_{seed}" for kind in ("raw", "smoothed") for seed in written.seeds}
        assert seeds | {"mean", "low", "high", "raw_mean"} <= set(data.columns)


def test_curves_are_the_means_of_the_run_files(drawn, written):
    data = drawn["fig2"].data
    part = data[(data["quantity"] == "none_solved") & (data["method"] == "reinforce")]
    for backbone in written.backbones:
        for seed in written.seeds:
            run = Run(backbone, "reinforce", seed)
            table = records.read(written.runs_dir(run) / "steps.parquet", records.STEPS).to_pandas()
            raw = part.loc[part["backbone"] == backbone, f"raw_seed_{seed}"]
            np.testing.assert_allclose(raw, 100 * table["none_solved"])


def test_heat_map_shows_every_cell_and_outlines_the_papers_choice(drawn, written):
    cells = drawn["fig4"].data
    cells = cells[cells["quantity"] == "grid"]
    assert list(zip(cells["beta_pos"], cells["beta_neg"], strict=True)) == list(written.grid())
    heat = drawn["fig4"].figure.axes[3]
    assert sorted(text.get_text() for text in heat.texts) == sorted(f"{value:.1f}" for value in cells["mean"])
    outlined = [patch for patch in heat.patches if patch.get_linewidth() > 1]
    assert len(outlined) == 1
    row, column = int(outlined[0].get_y()), int(outlined[0].get_x())
    method = cells[
        (cells["beta_pos"] == float(heat.get_yticklabels()[row].get_text()))
        & (cells["beta_neg"] == float(heat.get_xticklabels()[column].get_text()))
    ]
    assert method["method"].tolist() == ["asymgrpo"]


def test_numbers_in_the_heat_map_are_legible_on_every_colour():
    from asymgrpo.figures import fig4

    betas = np.arange(6) / 5
    rows = [{"method": "", "beta_pos": a, "beta_neg": b, "mean": 6 * a + b} for a in betas for b in betas if a != b]
    axes = Figure().subplots()
    fig4._heat_map(axes, pd.DataFrame(rows))  # a grid with holes
    colours = np.asarray(axes.collections[0].get_facecolor()).reshape(6, 6, 4)
    assert len(axes.texts) == 30
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        assert style.contrast(text.get_color(), colours[row, column]) >= 4.5


@pytest.mark.parametrize("seeds", ["1", "1,2"])
def test_power_states_its_seeds_and_marks_them(tmp_path, seeds):
    study = study_at(tmp_path, seeds=seeds, artefacts=["claims"])
    artefact = drawing("power", with_verdicts(write_study(study, problems=4)))
    left = artefact.figure.axes[0]
    if seeds == "1":
        assert "unknown from one seed" in artefact.caption
        return
    assert "as measured from 2 seeds" in artefact.caption
    assert "as measured from 2 seeds" in " ".join(text.get_text() for text in artefact.figure.texts).replace("\n", " ")
    assert left.lines[0].get_xdata()[0] == 2 > 1.2 * left.get_xlim()[0]


def test_proposition_1_is_measured_against_reinforce_of_the_same_seed(written):
    from asymgrpo.figures import prop1

    changes, _, _ = prop1.measured_and_predicted(written, [written.primary])
    tables = {
        method: records.read(
            written.runs_dir(Run(written.primary, method, 1)) / "steps.parquet", records.STEPS
        ).to_pandas()
        for method in ("reinforce", "pos-only-0.5")
    }
    change = {method: (table["entropy_after"] - table["entropy"]).to_numpy() for method, table in tables.items()}
    part = changes[(changes["method"] == "pos-only-0.5") & (changes["seed"] == 1)]
    np.testing.assert_allclose(part["measured"], change["pos-only-0.5"] - change["reinforce"])
    modulated = {name for name in written.methods if name.startswith(("pos-only", "neg-only"))}
    assert set(changes["method"]) == modulated | {"grpo"}


def test_proposition_1_predicts_from_reinforces_groups(written):
    """The finite-beta prediction that is drawn, against the formula from the same groups; endpoints count as 0."""
    from asymgrpo.figures import prop1

    changes, _, _ = prop1.measured_and_predicted(written, [written.primary])
    run = Run(written.primary, "reinforce", 1)
    groups = records.read(written.runs_dir(run) / "groups.parquet", records.GROUPS).to_pandas()
    groups = groups[groups["step"] == 1]
    mixed = groups[groups["correct"].between(1, groups["rollouts"] - 1)]
    p, gap = mixed["correct"] / mixed["rollouts"], mixed["confidence_correct"] - mixed["confidence_wrong"]
    expected = (p * (1 - p) * gap * (1 - ((1 - p) / p) ** 0.25)).sum() / len(groups)
    row = changes[(changes["method"] == "pos-only-0.25") & (changes["seed"] == 1) & (changes["step"] == 1)]
    assert row["finite_beta"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("seeds", "named"), [([1], "One seed"), ([1, 2], "range of 2 seeds"), ([1, 2, 3], "t interval")]
)
def test_bands_are_named_for_the_number_of_seeds(tmp_path, seeds, named):
    study = study_at(tmp_path, seeds=seeds, artefacts=["fig3"])
    for run in study.runs():
        write_run(study, run)
    artefact = drawing("fig3", study)
    assert named in artefact.caption
    assert any(named in text.get_text() for text in artefact.figure.texts)
    assert artefact.data["low"].isna().all() == (len(seeds) == 1)


def test_runs_without_mixed_groups_or_correct_rollouts_can_be_drawn(tmp_path):
    """A policy that solves nothing: NaN where a mean over nothing was asked for."""
    study = study_at(tmp_path, artefacts=["fig2", "prop1"])
    for run in study.runs():
        write_run(study, run)
        path = study.runs_dir(run) / "steps.parquet"
        steps = records.read(path, records.STEPS).to_pandas().assign(logprob_gain_correct=np.nan, alpha=np.nan)
        records.write(path, steps.to_dict("records"), records.STEPS)
        path = study.runs_dir(run) / "groups.parquet"
        groups = records.read(path, records.GROUPS).to_pandas().assign(correct=0)
        groups = groups.assign(confidence_correct=np.nan, confidence_wrong=groups["confidence_wrong"].fillna(-0.3))
        records.write(path, groups.to_dict("records"), records.GROUPS)
    for name in ("fig2", "prop1"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawing(name, study)


def test_missing_file_is_named_with_the_command_that_makes_it(tmp_path):
    study = study_at(tmp_path)
    with pytest.raises(ValueError, match=r"grpo/seed-1/evaluations\.parquet: no such file.*snakemake.*scale=tiny"):
        make("fig3", study)
    assert not (tmp_path / "figures").exists()


def test_incomplete_run_is_refused(tmp_path):
    study = study_at(tmp_path, artefacts=["fig3"])
    for run in study.runs():
        write_run(study, run)
    path = study.runs_dir(study.runs()[0]) / "steps.parquet"
    short = records.read(path, records.STEPS).to_pylist()[:-1]
    records.write(path, short, records.STEPS)
    with pytest.raises(ValueError, match=r"steps\.parquet: ends at step 3, expected 4.*snakemake"):
        make("fig3", study)
    records.write(path, [*short, short[-1] | {"step": 4}], records.STEPS)
    path = path.with_name("evaluations.parquet")
    whole = records.read(path, records.EVALUATIONS).to_pylist()
    records.write(
        path, [row for row in whole if (row["step"], row["benchmark"]) != (2, "countdown-4")], records.EVALUATIONS
    )
    with pytest.raises(ValueError, match=r"evaluations\.parquet: step 2 has the benchmarks .* expected"):
        make("fig3", study)
    path.write_bytes(b"not parquet")
    with pytest.raises(ValueError, match="not a readable parquet file"):
        make("fig3", study)


def test_unknown_figure_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no figure 'fig9'; there are fig1"):
        make("fig9", study_at(tmp_path))


def test_figures_without_runs_need_none(tmp_path):
    for name in WITHOUT_RUNS:
        paths = make(name, study_at(tmp_path))
        assert [path.suffix for path in paths] == [".pdf", ".svg", ".png", ".csv", ".md"]
        assert all(path.stat().st_size for path in paths)
    assert not (tmp_path / "results").exists()


def test_files_are_the_same_bytes_in_another_process(written):
    """Another hash seed, another process: dates, font subsets and sets must leave no trace."""
    names = ("fig1", "fig4", "prop1")
    first = {path: path.read_bytes() for name in names for path in make(name, written)}
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_figures as t;"
        "study = t.study_at(Path(sys.argv[2])); [t.make(name, study) for name in sys.argv[3:]]"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(written.root), *names]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "7"}, cwd=ROOT)
    for path, content in first.items():
        assert path.read_bytes() == content, path
    pdf = first[written.figure_stem("fig1").with_suffix(".pdf")]
    assert b"CreationDate" not in pdf
    assert b"/FontFile2" in pdf  # TrueType: text stays text


def test_places_do_not_depend_on_the_last_bits_of_the_layout(written):
    """The solver of the layout sums in another order in every process."""
    with style.context():
        artefact = importlib.import_module(FIGURES["prop1"]).draw(written)
        files_of(artefact)
    places = np.stack([axes.get_position(original=True).get_points() for axes in artefact.figure.axes])
    assert len(np.unique(places)) > 8
    assert (places == places.round(6)).all()


def test_drawing_leaves_matplotlibs_settings_alone(written):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    make("fig1", written)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("vision", ["normal", "deuteranopia", "protanopia"])
@pytest.mark.parametrize("name", ["fig2", "fig3", "fig4", "prop1", "pressure", "endpoints"])
def test_colours_of_one_panel_stay_apart_for_every_eye(name, vision):
    study = load(ROOT)
    for backbone in study.backbones:
        colours = [style.look(method).colour for method in study.methods_of(name, backbone)]
        if len(colours) > 1:
            assert style.separation(colours, vision) > 15


def test_every_method_has_a_look_of_its_own():
    study = load(ROOT)
    named = [name for name, method in study.methods.items() if not method.grid_cell]
    looks = [style.look(name) for name in named]
    assert len(set(looks)) == len(looks)
    assert len({look.colour for look in looks}) == len(looks)
    assert style.look("a-new-method") == style.look("a-new-method")


def test_contrast_agrees_with_known_ratios():
    assert style.contrast("black", "white") == pytest.approx(21)
    assert style.contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)
    assert [style.ink(colour) for colour in ("#fee838", "#7c7b78", "#00224e")] == ["black", "black", "white"]


def test_separation_agrees_with_known_distances():
    assert style.separation(["black", "white"]) == pytest.approx(100.0, abs=0.1)
    # Red and a green of the same lightness: far apart for most, near for a deuteranope.
    assert style.separation(["#d62728", "#708000"]) > 2 * style.separation(["#d62728", "#708000"], "deuteranopia")


def test_csv_has_unix_lines_and_no_index(written):
    [path] = [path for path in make("fig3", written) if path.suffix == ".csv"]
    frame = pd.read_csv(path)
    assert list(frame.columns[:4]) == ["quantity", "backbone", "method", "step"]
