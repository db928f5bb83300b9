"""From the files of a scale to plain data: what :mod:`asymgrpo.report.page` lays out."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from markupsafe import Markup
from matplotlib.colors import to_hex, to_rgb

from asymgrpo.config import BASE
from asymgrpo.figures import CHECKS, FIGURES, style
from asymgrpo.report import claims, curves, markup, responses, runs
from asymgrpo.report.tints import tinted
from asymgrpo.report.vector import Picture, picture
from asymgrpo.tables import TABLES

if TYPE_CHECKING:
    from asymgrpo.config import Study


@dataclass(frozen=True)
class Figure:
    """A figure with its caption."""

    name: str
    title: str
    caption: Markup  # what it shows
    made: Markup  # seeds, bands, smoothing, what is assumed
    picture: Picture


@dataclass(frozen=True)
class TableFile:
    """The tables of one file."""

    name: str
    title: str
    tables: Sequence[markup.Table]


@dataclass(frozen=True)
class Report:
    """Everything on the page."""

    scale: str
    facts: Mapping[str, Any]
    claims: Mapping[str, Any] | None
    figures: Sequence[Figure]
    tables: Sequence[TableFile]
    methods: Mapping[str, Mapping[str, Any]]  # name -> label and looks
    backbones: Mapping[str, str]
    benchmarks: Mapping[str, str]
    choices: Sequence[tuple[str, Sequence[str]]]  # sets of methods to draw, by name
    panels: Sequence[Mapping[str, Any]]
    smoothing: float
    band: str
    runs: Sequence[Mapping[str, Any]]
    responses: Sequence[Mapping[str, Any]]
    rule: str
    missing: Sequence[str]


def collect(study: Study) -> Report:
    """Read what is there.

    Raises:
        ValueError: a file cannot be read; or nothing at all is there.
    """
    wanted = study.runs()
    loaded = runs.load(study, wanted)
    found_figures, found_tables = _figures(study), _tables(study)
    if not (loaded.runs or found_figures or found_tables):
        raise ValueError(
            f"results/{study.scale}: nothing is there to report; make it with: snakemake --config scale={study.scale}"
        )
    from asymgrpo.analysis.intervals import band_name

    missing = [f"run {name}" for name in loaded.missing]
    missing += [f"figure {name}" for name in _expected(study, FIGURES) if name not in {f.name for f in found_figures}]
    missing += [f"table {name}" for name in _expected(study, TABLES) if name not in {t.name for t in found_tables}]
    return Report(
        scale=study.scale,
        facts=_facts(study, loaded, len(wanted)),
        claims=claims.read(study.table_stem("claims").with_suffix(".json")),
        figures=found_figures,
        tables=found_tables,
        methods=_methods(study),
        backbones={name: backbone.label for name, backbone in study.backbones.items()},
        benchmarks={name: benchmark.label for name, benchmark in study.benchmarks.items()},
        choices=_choices(study),
        panels=curves.panels(study, loaded.steps, loaded.evaluations) if loaded.runs else [],
        smoothing=curves.smoothing_of(study),
        band=band_name(len(study.seeds)),
        runs=loaded.about,
        responses=responses.chosen(study, responses.of_first_seed(study)),
        rule=responses.rule(study),
        missing=missing,
    )


def _expected(study: Study, names: Mapping[str, str]) -> list[str]:
    """Those of the figures or tables that the selected artefacts have."""
    return [name for name in names if name in study.artefacts]


def _known(study: Study, names: Iterable[str]) -> list[str]:
    """Those that may be shown: of the selected artefacts, or further files of an artefact (Prop. 1, the claims)."""
    return [name for name in names if name in study.artefacts or name not in study.every_artefact]


def _figures(study: Study) -> list[Figure]:
    found = []
    for name in [*_known(study, FIGURES), *CHECKS]:
        stem = study.figure_stem(name)
        image, text = picture(stem), stem.with_name(stem.name + ".md")
        if image is not None and text.is_file():
            title, caption, made = markup.caption(text.read_text(encoding="utf-8"))
            found.append(Figure(name, title or _title(study, name), caption, made, image))
    return found


def _tables(study: Study) -> list[TableFile]:
    found = []
    for name in _known(study, TABLES):
        stem = study.table_stem(name)
        text = stem.with_name(stem.name + ".md")
        if text.is_file():
            parts = markup.tables(text.read_text(encoding="utf-8"))
            if parts:
                found.append(TableFile(name, _title(study, name), tinted(parts) if name == "reported" else parts))
    return found


def _title(study: Study, name: str) -> str:
    artefact = study.every_artefact.get(name)
    return artefact.title if artefact else name.replace("_", " ").capitalize()


# -- what was run -----------------------------------------------------------------------------------------------------


def _facts(study: Study, loaded: runs.Loaded, planned: int) -> dict[str, Any]:
    about = loaded.about
    commits = list(dict.fromkeys(one["commit"] for one in about if one["commit"]))
    dates = sorted(one["date"][:10] for one in about if one["date"])
    of_commits = sorted(filter(None, (runs.commit_date(study.root, commit) for commit in commits)))
    hours = {clock: sum(one["cost"][f"{clock}_seconds"] for one in about) / 3600 for clock in ("cpu", "wall", "gpu")}
    return {
        "backbones": [
            (b.label, b.stands_for if b.stands_for not in ("", b.label) else "") for b in study.backbones.values()
        ],
        "methods": len({one["method"] for one in about}),
        "runs": len(about),
        "planned": planned,
        "seeds": list(study.seeds),
        "steps": max((one["steps"] for one in about), default=0),
        "hours": hours,
        "starts": len(study.starts()),
        "scored": _scored(study),
        "benchmarks": [benchmark.label for benchmark in study.benchmarks.values()],
        "commits": commits,
        "changes": any(one["changes"] for one in about),
        "date": dates[-1] if dates else (of_commits[-1] if of_commits else None),
        "date_is": "of the newest run" if dates else "of the newest commit",
        "machines": list(dict.fromkeys(_machine(one) for one in about)),
    }


def _machine(one: Mapping[str, Any]) -> str:
    parts = [] if one["device"] in (None, "cpu") else [str(one["device"])]
    return ", ".join([*parts, f"{one['processor']}, {one['cores']} cores"])


def _scored(study: Study) -> int:
    """How many responses the final evaluations have scored."""
    place = study.evaluation_dir(study.runs()[0]).parents[2] if study.runs() else None
    if place is None or not place.is_dir():
        return 0
    return sum(pq.read_metadata(path).num_rows for path in sorted(place.glob("*/*/seed-*/*.scores.parquet")))


# -- methods ----------------------------------------------------------------------------------------------------------


def _methods(study: Study) -> dict[str, dict[str, Any]]:
    found = {}
    for name, label in [(BASE, "Base policy"), *((name, m.label) for name, m in study.methods.items())]:
        colour, line, _ = style.look(name)
        found[name] = {
            "label": label,
            "light": to_hex(colour),
            "dark": _for_dark(colour),
            "dash": [] if isinstance(line, str) else [float(part) for part in line[1]],
        }
    return found


def _for_dark(colour: str) -> str:
    """The same hue, light enough for a dark page."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    lightness = lightness if lightness >= 0.6 else 0.6 + (0.6 - lightness) * 0.45
    return to_hex(colorsys.hls_to_rgb(hue, lightness, min(saturation, 0.85)))


def _choices(study: Study) -> list[tuple[str, Sequence[str]]]:
    """The sets of methods that figures show, and the grid."""
    names = {"fig4": "Baselines (Fig. 4)", "fig2": "Channels (Fig. 2)", "fig3": "Flips (Fig. 3)"}
    found: list[tuple[str, Sequence[str]]] = [
        (title, study.methods_of(name, study.primary)) for name, title in names.items() if name in study.artefacts
    ]
    if "fig4" in study.artefacts and study.grid():
        found.append(("Grid (Fig. 4 d)", list(study.grid().values())))
    return [one for one in found if one[1]]
