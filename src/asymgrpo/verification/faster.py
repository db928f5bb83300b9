"""The same results from math-verify in a third of the time: three shortcuts, put in place by :func:`install`.

Only worker processes (and tests) call it. Each shortcut falls back on the original where it may not agree.
"""

from __future__ import annotations

import re
from typing import Any

import sympy
from antlr4.atn.PredictionMode import PredictionMode
from latex2sympy2_extended import latex2sympy2
from latex2sympy2_extended.antlr_parser import PSParser
from math_verify import grader

_DIGITS = re.compile(r"\d{1,4000}")
_DECIMAL = re.compile(r"\d{1,15}\.\d{1,15}")
_POINT = tuple(sympy.Float(n) / 97 for n in (101, 127, 149, 173, 211, 251))
"""Values for symbols: positive, not whole, nothing in common."""


class _Latex2Sympy(latex2sympy2._Latex2Sympy):
    """Parses in two stages, as ANTLR recommends, and makes numbers without compiling Python.

    The first stage ignores the context of a rule. What it accepts it parses as the second would; what it refuses may be
    fine, so then the second, the only one of the original, decides.
    """

    _mode = PredictionMode.LL

    def create_parser(self, text: str) -> Any:
        parser = super().create_parser(text)
        parser._interp.predictionMode = self._mode
        return parser

    def parse(self, text: str) -> Any:
        self._mode = PredictionMode.SLL
        try:
            return super().parse(text)
        except (RecursionError, MemoryError):
            raise  # the second stage needs more of both
        except Exception:
            self._mode = PredictionMode.LL
            return super().parse(text)

    def parse_number(self, text: str) -> Any:
        text = text.replace(",", "")
        if _DIGITS.fullmatch(text) and text.isascii():
            return sympy.Integer(int(text))
        if _DECIMAL.fullmatch(text) and text.isascii():
            return sympy.Float(text)
        return super().parse_number(text)


_original_symbolic_eq = grader.sympy_symbolic_eq


def _symbolic_eq(gold: Any, answer: Any) -> bool:
    """False at once if the two differ at one point; otherwise simplify their difference, as the original does."""
    try:
        difference = gold - answer
        if isinstance(difference, sympy.Expr) and not difference.has(sympy.Float):  # floats may differ by rounding
            symbols = sorted(difference.free_symbols, key=str)
            point = dict(zip(symbols, _POINT, strict=False))
            if len(point) == len(symbols) and 1e-6 < abs(complex(difference.evalf(15, subs=point))) < 1e15:
                return False
    except Exception:
        pass  # it cannot be evaluated
    return bool(_original_symbolic_eq(gold, answer))


def install() -> None:
    """Put the shortcuts in place."""
    # The grammar that latex2sympy2_extended generated for ANTLR 4.9 (the one that Hydra allows) lacks a rule which the
    # code asks for before it comes to percentages: without this, every percentage is an error.
    if not hasattr(PSParser.AtomContext, "FUNC_GAMMA"):
        PSParser.AtomContext.FUNC_GAMMA = lambda self: None
    latex2sympy2._Latex2Sympy = _Latex2Sympy
    grader.sympy_symbolic_eq = _symbolic_eq
