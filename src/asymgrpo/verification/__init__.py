"""Verdicts on responses: of math problems here; of countdown, which needs its prompt, in :mod:`.countdown`."""

from asymgrpo.verification.math import MATH_TYPES, Item, Limits, Verdict, verify, verify_many
from asymgrpo.verification.pool import Pool, PoolError
from asymgrpo.verification.reasons import NO_ANSWER

__all__ = ["MATH_TYPES", "NO_ANSWER", "Item", "Limits", "Pool", "PoolError", "Verdict", "verify", "verify_many"]
