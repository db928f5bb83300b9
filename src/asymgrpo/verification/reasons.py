"""Why a response is not correct. A reason is empty if and only if it is."""

NO_ANSWER = "no answer"
"""Nothing could be extracted: neither a box nor anything that math-verify takes for an answer."""

DIFFERS = "differs"
"""There is an answer, and it is not the ground truth."""

TIME_LIMIT = "time limit"
"""Comparing took longer than it may."""

MEMORY_LIMIT = "memory limit"
"""Comparing needed more memory than it may."""

DIED = "worker died"
"""The process that compared ended, twice; how it ended follows."""

ERROR = "error"
"""Comparing raised an exception; its name follows."""
