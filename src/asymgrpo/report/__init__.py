"""The report: everything that a finished scale has to say, in one HTML file that opens without a network.

:mod:`~asymgrpo.report.collect` reads the files of runs, figures and tables into plain data,
:mod:`~asymgrpo.report.page` turns that into the page. Nothing is computed anew that a figure or a table has, and only
files are read: the same files give the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asymgrpo.config import Study


def make(study: Study, out: Path | None = None) -> Path:
    """Write the report of what is there of a scale, atomically; what is not there yet is named in it.

    Args:
        study: of one scale.
        out: default :meth:`asymgrpo.config.Study.report_file`.

    Returns:
        The path.

    Raises:
        ValueError: a file that is there cannot be read; or nothing is there.
    """
    from asymgrpo.report.collect import collect
    from asymgrpo.report.page import render

    out = out or study.report_file()
    text = render(collect(study))
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(out)
    return out
