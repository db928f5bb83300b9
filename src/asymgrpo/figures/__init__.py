"""Figures: one module per figure, each with ``draw(study)``, from run files (or from nothing) to an :class:`Artefact`.

``make(name, study)`` writes five files beside each other: the PDF (vector, for papers), the SVG (vector, for the
report), the PNG (to look at), the CSV of exactly what is drawn, and the caption in markdown. Same runs, same bytes.

A new figure: a module here with ``draw``, a line in :data:`FIGURES`, an entry in config/artefacts.yaml.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from asymgrpo.config import Study

FIGURES: dict[str, str] = {
    "fig1": "asymgrpo.figures.fig1",
    "fig2": "asymgrpo.figures.fig2",
    "fig3": "asymgrpo.figures.fig3",
    "fig4": "asymgrpo.figures.fig4",
    "prop1_tabular": "asymgrpo.figures.prop1_tabular",
    "prop1": "asymgrpo.figures.prop1",
    "prop2": "asymgrpo.figures.prop2",
    "pressure": "asymgrpo.figures.pressure",
    "endpoints": "asymgrpo.figures.endpoints",
    "coverage": "asymgrpo.figures.coverage",
    "schedules": "asymgrpo.figures.schedules",
    "claims": "asymgrpo.figures.claims",
    "power": "asymgrpo.figures.power",
}
"""Figure -> module with ``draw(study)``; imported when drawn, so that listing figures costs nothing."""

CHECKS: dict[str, str] = {"agreement": "asymgrpo.figures.agreement"}
"""The same for figures that are no part of the paper's, from runs of their own."""


CURVE_DECODING = "greedy"
"""Decoding of the evaluations during training, which the curves of test accuracy show."""


@dataclass(frozen=True)
class Artefact:
    """A drawn figure.

    Attributes:
        figure: the matplotlib figure.
        data: every number in it: what is drawn, and the raw values behind it.
        caption: markdown.
    """

    figure: Figure
    data: pd.DataFrame
    caption: str


def make(name: str, study: Study) -> list[Path]:
    """Draw one figure and write its PDF, SVG, PNG, CSV and caption under ``study.figure_stem(name)``.

    Files appear all or not at all, and hold no date: drawn twice from the same runs they are the same bytes.

    Returns:
        The five paths.

    Raises:
        ValueError: no such figure; a run file that it needs is missing or incomplete.
    """
    modules = FIGURES | CHECKS
    if name not in modules:
        raise ValueError(f"no figure {name!r}; there are {', '.join(modules)}")
    from asymgrpo.figures import style

    with style.context():
        return write_all(Path(study.figure_stem(name)), files_of(import_module(modules[name]).draw(study)))


def files_of(artefact: Artefact) -> dict[str, bytes]:
    """The files of a drawn figure by their endings; to be called in :func:`asymgrpo.figures.style.context`."""
    _lay_out(artefact.figure)
    return {
        ".pdf": _image(artefact.figure, "pdf", {"Creator": "asymgrpo", "Producer": None, "CreationDate": None}),
        ".svg": _image(artefact.figure, "svg", {"Creator": "asymgrpo", "Date": None}),
        ".png": _image(artefact.figure, "png", {"Software": None}),
        ".csv": csv_bytes(artefact.data),
        ".md": (artefact.caption.strip() + "\n").encode(),
    }


def _lay_out(figure: Figure) -> None:
    """Give everything its place, once for all files, and to a millionth of the figure.

    The solver of the layout orders its sums by the addresses of its variables: the last bits of its results differ
    between processes, and with them pixels and digits.
    """
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(Bbox(axes.get_position(original=True).get_points().round(6)))


def _image(figure: Figure, kind: str, metadata: Mapping[str, str | None]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=dict(metadata))
    return buffer.getvalue()


def csv_bytes(data: pd.DataFrame) -> bytes:
    """A frame as CSV: 10 significant digits, unix line ends, no index."""
    return data.to_csv(index=False, lineterminator="\n", float_format="%.10g").encode()


def write_all(stem: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write ``stem + suffix`` for every suffix: temporary files first, then all are moved into place."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    moves = []
    for suffix, content in files.items():
        path = stem.with_name(stem.name + suffix)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(content)
        moves.append((temporary, path))
    for temporary, path in moves:
        temporary.replace(path)
    return [path for _, path in moves]


def shown(study: Study, name: str) -> dict[str, list[str]]:
    """The backbones of which this figure shows anything, with the methods shown."""
    methods = {backbone: study.methods_of(name, backbone) for backbone in study.backbones}
    return {backbone: names for backbone, names in methods.items() if names}


def seeds_and_band(study: Study) -> str:
    """One sentence: the seeds, and what lines and bands are."""
    from asymgrpo.analysis.intervals import band_name

    if len(study.seeds) == 1:
        return f"One seed ({study.seeds[0]}): no band."
    listed = ", ".join(map(str, study.seeds))
    return f"Lines: mean of seeds {listed}; bands: {band_name(len(study.seeds))}."


def smoothing(factor: float) -> str:
    """One sentence about the EMA."""
    return f"EMA {factor:g}, bias-corrected, on every curve." if factor else "No smoothing."


def accuracy_note(study: Study) -> str:
    """One sentence about what a curve of test accuracy is."""
    return f"Test accuracy: {CURVE_DECODING} decoding, unweighted mean of {len(study.benchmarks)} benchmarks."


def assumed_in_short(study: Study, name: str, limit: int = 100) -> str:
    """The footnote's sentence about assumed settings: the first ones, and how many more the caption file has."""
    statements = [statement.removesuffix(" (assumed)") for statement in study.assumed(name)]
    if not statements:
        return ""
    kept = [statements[0]]
    for statement in statements[1:]:
        if len("; ".join([*kept, statement])) > limit:
            break
        kept.append(statement)
    rest = len(statements) - len(kept)
    return f"Assumed: {'; '.join(kept)}" + (f"; {rest} more in the caption file." if rest else ".")


def assumptions(study: Study, name: str) -> str:
    """The caption's paragraph about settings that the paper does not state; empty if the figure depends on none."""
    statements = [statement.removesuffix(" (assumed)") for statement in study.assumed(name)]
    return "Assumed, because the paper does not state it: " + "; ".join(statements) + "." if statements else ""


def standing(study: Study) -> str:
    """The backbones, each with the paper's model whose place it takes, if that is another."""
    return ", ".join(
        f"{b.label} ({b.stands_for} in the paper)" if b.stands_for not in ("", b.label) else b.label
        for b in study.backbones.values()
    )


def chosen_methods(study: Study) -> str:
    """One sentence about the methods of a scale that does not run all of them; empty for one that does."""
    if ("methods",) not in study.scale_settings:
        return ""
    labels = [method.label for method in study.methods.values() if not method.grid_cell]
    return f"Of the methods, this scale runs only {', '.join(labels)}."


def closing_notes(study: Study, name: str) -> list[str]:
    """What the notes of a figure or table end with: methods that the scale leaves out, and assumed settings; if any."""
    return [note for note in (chosen_methods(study), assumptions(study, name)) if note]


def caption(study: Study, name: str, text: str, *notes: str) -> str:
    """A figure's caption in markdown: what it shows, how it was made, what was assumed."""
    made = " ".join(
        note for note in (*notes, f"Scale `{study.scale}`: {standing(study)}.", chosen_methods(study)) if note
    )
    return "\n\n".join(part for part in (text, made, assumptions(study, name)) if part)
