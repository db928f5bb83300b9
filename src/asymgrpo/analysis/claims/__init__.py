"""Verdicts on the paper's claims: what was written down (config/claims.yaml) against what the runs say.

:mod:`~asymgrpo.analysis.claims.definitions` expands the claims into statements about one backbone and one contrast,
:mod:`~asymgrpo.analysis.claims.quantities` reads what they speak of from the runs,
:mod:`~asymgrpo.analysis.claims.statistics` has the intervals and tests,
:mod:`~asymgrpo.analysis.claims.verdicts` the rules for verdicts, and
:mod:`~asymgrpo.analysis.claims.power` what more seeds, and the paper's own protocol, could decide.
:func:`asymgrpo.analysis.claims.verdicts.judge` does all of it for a study.
"""
