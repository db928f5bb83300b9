"""An audit of reported accuracies: `asymgrpo audit FILE` for any CSV, and the table `audit` for the paper's Table 2.

:mod:`~asymgrpo.audit.protocol` says n problems x k samples of each benchmark, :mod:`~asymgrpo.audit.reading` reads the
file, :mod:`~asymgrpo.audit.judging` judges every cell, block and average by :mod:`asymgrpo.analysis.granularity`, and
:mod:`~asymgrpo.audit.text` says what came out.
"""

from asymgrpo.audit.judging import Audit, audit
from asymgrpo.audit.protocol import chosen, from_file, from_options, stated, tried
from asymgrpo.audit.reading import Entry, Layout, read

__all__ = ["Audit", "Entry", "Layout", "audit", "chosen", "from_file", "from_options", "read", "stated", "tried"]
