"""How every figure looks: one width, one font, one colour + line style + marker per method, one legend and footnote.

Text stays at 6-7 pt at the width of a single-column paper (5.5 inches), so a figure is included at its own size.
Colours were chosen so that those of one panel stay apart under deuteranopia and protanopia too (:func:`separation`,
tested); line styles and markers tell the methods apart without any colour.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar
from zlib import crc32

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.typing import ColorType

    from asymgrpo.config import Study

P = ParamSpec("P")
T = TypeVar("T")

WIDTH = 5.5
"""Inches: the text width of a single-column paper."""

WRAP = 120
"""Characters in a line of the footnote, whose type is 6 pt."""

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same metrics on every machine
    "font.size": 7,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 7,
    "axes.titlepad": 3,
    "axes.titlelocation": "left",
    "axes.labelsize": 7,
    "axes.labelpad": 2,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 1.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "pdf.fonttype": 42,  # TrueType: text stays text
    "ps.fonttype": 42,
    "svg.hashsalt": "asymgrpo",
    "figure.dpi": 100,
    "savefig.dpi": 220,
}

SOLID, DASHED, DOTTED, DASHDOT = "-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1.2, 1, 1.2))


class Look(NamedTuple):
    """How one method is drawn, wherever it appears."""

    colour: str
    line: Any
    marker: str


LOOKS: dict[str, Look] = {
    "base": Look("#777777", DOTTED, "x"),
    "reinforce": Look("#222222", SOLID, "o"),
    "reinforce-entropy": Look("#9e9e9e", DASHED, "o"),
    "reinforce-all-solved-zero": Look("#5a5a5a", DASHDOT, "P"),
    "reinforce-none-solved-zero": Look("#6f5f3f", DOTTED, "X"),
    "pos-only-0.25": Look("#8ec6ea", DOTTED, "^"),
    "pos-only-0.5": Look("#3f8fd0", DASHED, "^"),
    "pos-only-0.75": Look("#0b4a96", SOLID, "^"),
    "neg-only-0.25": Look("#f9b26a", DOTTED, "v"),
    "neg-only-0.5": Look("#e0600f", DASHED, "v"),
    "neg-only-0.75": Look("#8c2d04", SOLID, "v"),
    "grpo": Look("#4422aa", SOLID, "s"),
    "grpo-entropy": Look("#ddcc77", DASHED, "s"),
    "grpo-clip-higher": Look("#e69f00", DASHDOT, "D"),
    "dr-grpo": Look("#66ccee", DOTTED, "h"),
    "symmetric": Look("#009e73", DASHED, "d"),
    "asymgrpo": Look("#cc3311", SOLID, "*"),
    "asymgrpo-clip-higher": Look("#882255", DASHDOT, "*"),
    "asymgrpo-entropy": Look("#aa3377", DASHED, "*"),
    "ent-decrease": Look("#44aa99", DASHED, "v"),
    "ent-increase": Look("#ee7733", DASHDOT, "^"),
    "schedule-linear": Look("#007f7f", DASHED, "p"),
    "schedule-cosine": Look("#a0a0ff", DOTTED, "<"),
    "schedule-adaptive": Look("#d4a017", DASHDOT, ">"),
}

_SPARE = ("#999933", "#cc6677", "#88ccee", "#117733", "#ee3377", "#0077bb", "#b8860b", "#7fbf3f")
_SPARE_LINES = (SOLID, DASHED, DOTTED, DASHDOT)
_SPARE_MARKERS = ("p", "<", ">", "8")

BETA_COLOURS = ("#222222", "#8ec6ea", "#3f8fd0", "#0b4a96", "#882255", "#cc6677")
BETA_LINES = (SOLID, DOTTED, DASHED, SOLID, DASHDOT, DASHED)


def look(method: str) -> Look:
    """A method's look; one not listed gets a fixed one of the spare looks, by a hash of its name."""
    if method in LOOKS:
        return LOOKS[method]
    index = crc32(method.encode())
    return Look(
        _SPARE[index % len(_SPARE)],
        _SPARE_LINES[index // 8 % len(_SPARE_LINES)],
        _SPARE_MARKERS[index // 32 % len(_SPARE_MARKERS)],
    )


def beta_look(index: int) -> dict[str, Any]:
    """Colour and line style of the index-th exponent, where exponents and not methods are told apart."""
    return {"color": BETA_COLOURS[index % len(BETA_COLOURS)], "linestyle": BETA_LINES[index % len(BETA_LINES)]}


@contextmanager
def context() -> Iterator[None]:
    """Matplotlib settings of every figure, restored on exit."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)  # type: ignore[arg-type]
        yield


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorator: run a drawing function under :func:`context`."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        with context():
            return draw(*args, **kwargs)

    return inside


def canvas(height: float) -> Figure:
    """An empty figure of the paper's width; ``height``: inches of its panels, :func:`finish` adds the rest."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.02, h_pad=0.03, wspace=0.03, hspace=0.03)
    return figure


def panel(axes: Axes, letter: str, title: str) -> None:
    """Title a panel: ``(a) Entropy``."""
    axes.set_title(f"({letter}) {title}" if title else f"({letter})")


def draw_curves(axes: Axes, curves: pd.DataFrame, methods: Sequence[str], *, markers: bool = False) -> None:
    """Draw one backbone's curves with their bands.

    Args:
        axes: where.
        curves: rows of one backbone from :func:`asymgrpo.analysis.curves.curves`.
        methods: in drawing order.
        markers: mark every few points, staggered, so that lines on top of each other can be told apart.
    """
    for order, method in enumerate(methods):
        part = curves[curves["method"] == method]
        colour, line, marker = look(method)
        points = len(part)
        every = (order % max(1, points // 6), max(1, points // 6)) if markers else None
        axes.plot(
            part["step"], part["mean"], color=colour, linestyle=line, zorder=3 + order / 100,
            marker=marker if markers else None, markevery=every, markeredgewidth=0.0, markersize=_size(marker),
        )  # fmt: skip
        axes.fill_between(part["step"], part["low"], part["high"], color=colour, alpha=0.13, linewidth=0, zorder=2)
    axes.margins(x=0.02)


def _size(marker: str) -> float:
    return 4.0 if marker == "*" else 2.6


def tidy(curves: pd.DataFrame) -> pd.DataFrame:
    """The columns that say which row this is first: quantity, backbone, method, step; then the numbers."""
    first = [name for name in ("quantity", "backbone", "method", "step") if name in curves]
    return curves[first + [name for name in curves if name not in first]]


def handles(methods: Sequence[str], *, markers: bool = True) -> list[Line2D]:
    """Legend handles; the empty name gives an empty entry, to line up columns."""
    result = []
    for method in methods:
        if not method:
            result.append(Line2D([], [], linestyle="none"))
            continue
        colour, line, marker = look(method)
        shown: dict[str, Any] = {"marker": marker, "markersize": _size(marker)} if markers else {}
        result.append(Line2D([], [], color=colour, linestyle=line, markeredgewidth=0.0, **shown))
    return result


def in_columns(methods: Sequence[str]) -> list[str]:
    """Order methods for a legend of three columns, by channel: neither, positive, negative; padded by empty names."""
    columns: list[list[str]] = [[], [], []]
    for name in methods:
        columns[1 if name.startswith("pos-only") else 2 if name.startswith("neg-only") else 0].append(name)
    height = max(map(len, columns))
    return [name for column in columns for name in column + [""] * (height - len(column))]


def by_rows(names: Sequence[str], columns: int) -> list[str]:
    """Order legend entries so that they read row by row (a legend fills its columns); padded by empty names."""
    rows = -(-len(names) // columns)
    padded = [*names, *[""] * (rows * columns - len(names))]
    return [padded[row * columns + column] for column in range(columns) for row in range(rows)]


def labels(study: Study, methods: Sequence[str]) -> list[str]:
    """Legend labels of these methods; the empty name gives an empty label."""
    return [study.methods[name].math if name else "" for name in methods]


def finish_methods(
    figure: Figure, study: Study, methods: Sequence[str], *, columns: int, footnote: Sequence[str]
) -> None:
    """:func:`finish` with a legend of methods, in this order."""
    finish(figure, handles(methods), labels(study, methods), columns=columns, footnote=footnote)


def finish(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], *, columns: int, footnote: Sequence[str]
) -> None:
    """Make room below the panels for one shared legend and the footnote, and put them there.

    Args:
        figure: from :func:`canvas`, panels drawn.
        handles: legend handles; none for no legend.
        labels: as many.
        columns: columns of the legend.
        footnote: short statements, joined to a paragraph of small type.
    """
    lines = textwrap.wrap(" ".join(part for part in footnote if part), width=WRAP)
    rows = -(-len(handles) // columns) if handles else 0
    height_note = 0.115 * len(lines) + 0.03
    height_legend = 0.135 * rows + 0.07 if rows else 0.0
    strip = height_note + height_legend
    height = figure.get_figheight() + strip
    figure.set_figheight(height)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, strip / height, 1, 1 - strip / height))
    if rows:
        legend = figure.legend(
            handles, labels, loc="lower center", bbox_to_anchor=(0.5, (height_note + 0.03) / height), ncols=columns,
            handlelength=2.6, columnspacing=1.6, labelspacing=0.25, borderaxespad=0.0, borderpad=0.1,
        )  # fmt: skip
        legend.set_in_layout(False)
    note = figure.text(
        0.04 / WIDTH, 0.03 / height, "\n".join(lines), fontsize=6, color="#444444", va="bottom", ha="left",
        linespacing=1.15,
    )  # fmt: skip
    note.set_in_layout(False)


def contrast(first: ColorType, second: ColorType) -> float:
    """The contrast ratio of two colours as WCAG 2 defines it, 1 to 21; text should have 4.5."""
    light, dark = sorted((float(_XYZ[1] @ _linear(colour)) + 0.05 for colour in (first, second)), reverse=True)
    return light / dark


def ink(background: ColorType) -> str:
    """Black or white, whichever is read better on this colour."""
    return max(("black", "white"), key=lambda colour: contrast(colour, background))


def separation(colours: Sequence[str], vision: str = "normal") -> float:
    """The smallest CIELAB distance (CIE76) between two of these colours, as seen with this vision.

    Args:
        colours: any matplotlib colours, at least two.
        vision: ``normal``, ``deuteranopia`` or ``protanopia``; simulated with the matrices of Machado, Oliveira and
            Fernandes (2009) at full severity, on linear RGB.

    Returns:
        The distance; about 2 can just be seen, lines in one panel should be above 15.
    """
    points = [_lab(colour, vision) for colour in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(points, 2))


_VISION = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def _linear(colour: ColorType) -> NDArray[np.float64]:
    """Linear RGB of a colour in sRGB, shape (3,)."""
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(colour: str, vision: str) -> NDArray[np.float64]:
    """CIELAB (D65) of a colour as this vision sees it, shape (3,)."""
    xyz = _XYZ @ np.clip(_VISION[vision] @ _linear(colour), 0.0, 1.0) / _WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
