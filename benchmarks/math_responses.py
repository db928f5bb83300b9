r"""Responses to math problems, made up: what a model writes under "put your final answer within \boxed{}".

The answers have the forms and about the frequencies of MATH's (integers first, then fractions, radicals, expressions,
points, intervals, ...); a group of rollouts shares its problem, right rollouts write the same answer in several ways,
wrong ones repeat common errors. Around the answer stands a chain of reasoning of realistic length with formulas,
headings and lists, now and then an earlier box, text after the box, or no box at all (cut off, or "the answer is").
"""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

SENTENCES = (
    "We are given that $x = {a}$ and $y = {b}$, so we need to find the value of $x + y - {c}$.",
    "First, note that the number of ways to choose {a} items from {b} is $\\binom{{{b}}}{{{a}}}$, which is known.",
    "\\[\n\\frac{{{a}}}{{{b}}} + \\frac{{{c}}}{{{b}}} = \\frac{{{a} + {c}}}{{{b}}}\n\\]",
    "Substituting this back into the equation, we get\n\\[ x^2 - {a}x + {b} = 0. \\]",
    "### Step {d}: Simplify the expression",
    "By the quadratic formula, \\(x = \\frac{{{a} \\pm \\sqrt{{{b}^2 - 4 \\cdot {d}}}}}{{2}}\\).",
    "Therefore, the remaining part must be equal to {c}, and since {a} is less than {c} we can continue.",
    "- **Case {d}**: If $n \\equiv {a} \\pmod{{{c}}}$, then $n^2 \\equiv {b} \\pmod{{{c}}}$.",
    "Now let's compute the area of triangle $ABC$ with side lengths ${a}$, ${b}$, and ${c}$ using Heron's formula.",
    "We can verify this: ${a} \\times {b} = {c}$, which is consistent with what we found above.",
    "Use the properties of logarithms. Recall that $\\log_b(xy) = \\log_b x + \\log_b y$.",
    "$$\n\\begin{{aligned}}\nf({a}) &= {a}^2 + {b} \\\\\n&= {c}.\n\\end{{aligned}}\n$$",
    "So, we have ${a}k + {b} \\leq {c}$, which means that $k$ is at most {d}.",
    "Let $S = \\{{1, 2, \\ldots, {b}\\}}$ and consider the subsets of $S$ of size {d}; there are {c} of them.",
    "Since $\\sin^2\\theta + \\cos^2\\theta = 1$, it follows that $\\cos\\theta = \\pm\\frac{{{d}}}{{{a}}}$.",
    "{d}. Multiply both sides by ${a}$ and collect the terms in $x$.",
    "However, we have to be careful here, because the two events are not independent of each other.",
)

ENDINGS = (
    "Therefore, the final answer is $\\boxed{ANSWER}$.",
    "Thus, the answer is:\n\n\\[\n\\boxed{ANSWER}\n\\]",
    "So, the value we are looking for is \\(\\boxed{ANSWER}\\).",
    "The final answer is:\n$$\n\\boxed{ANSWER}\n$$",
    "Hence, we conclude that the answer is \\boxed{ANSWER}.",
    "**Final Answer**\n\\[ \\boxed{ANSWER} \\]",
    "Putting everything together gives $\\boxed{ANSWER}$, as desired.",
    "$$\\boxed{ANSWER}$$\n\nHence the answer to the problem is $ANSWER$. I hope this helps!",
    "The solutions are $\\boxed{ANSWER}$ and nothing else, because $x > {a}$ is impossible by $\\frac{{a}}{{b}} < 1$.",
    "Therefore, the answer is $\\boxed{ANSWER}$. This completes the solution, with all {a} cases checked.",
)

BEFORE = (
    "For the first part we find $\\boxed{OTHER}$, but the question asks for more.",
    "An intermediate result is\n\\[ \\boxed{OTHER} \\]\nwhich we use below.",
    "The answer is $\\boxed{ANSWER}$. Let us double-check this.",
)

PLAIN = (
    "The answer is ANSWER.",
    "So the final answer is $ANSWER$.",
    "Answer: ANSWER",
)


class Problem(NamedTuple):
    """Ground truth and its type; ways to write it, the usual one first; wrong answers, the commonest first."""

    ground_truth: str
    answer_type: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]


class Response(NamedTuple):
    """What a model wrote, and what it is to be compared with."""

    text: str
    ground_truth: str
    answer_type: str


def responses(count: int, group: int = 8, seed: int = 0) -> list[Response]:
    """So many responses, in groups of rollouts of one problem."""
    chance = random.Random(seed)
    found: list[Response] = []
    while len(found) < count:
        kind = chance.choices([k for k, _ in KINDS], [w for _, w in KINDS])[0]
        problem = kind(chance)
        solved = chance.betavariate(0.8, 0.6)
        for _ in range(min(group, count - len(found))):
            text = _response(chance, problem, chance.random() < solved)
            found.append(Response(text, problem.ground_truth, problem.answer_type))
    return found


def _response(chance: random.Random, problem: Problem, right: bool) -> str:
    forms = problem.right if right else problem.wrong
    answer = chance.choices(forms, [2.0**-i for i in range(len(forms))])[0]
    reasoning = _reasoning(chance, max(3, int(chance.lognormvariate(2.6, 0.5))))
    way = chance.random()
    if way < 0.03:  # cut off, more often a long one
        return reasoning + "\n\n" + _reasoning(chance, 25)[: -chance.randint(1, 60)]
    if way < 0.05:
        return reasoning + "\n\n" + chance.choice(PLAIN).replace("ANSWER", answer)
    if way < 0.12:
        other = str(chance.randint(2, 500))
        first = chance.choice(BEFORE).replace("OTHER", other).replace("ANSWER", answer)
        reasoning += "\n\n" + first + "\n\n" + _reasoning(chance, 4)
    if problem.answer_type == "multiple" and "," in answer and "{" not in answer and chance.random() < 0.2:
        boxes = ["$\\boxed{" + part.strip() + "}$" for part in answer.split(",")]  # one for each answer
        return reasoning + "\n\nThe answers are " + ", ".join(boxes[:-1]) + " and " + boxes[-1] + "."
    return reasoning + "\n\n" + _filled(chance, chance.choice(ENDINGS)).replace("ANSWER", answer)


def _reasoning(chance: random.Random, sentences: int) -> str:
    parts = [
        _filled(chance, chance.choice(SENTENCES).replace("{{", "\0").replace("}}", "\1")) for _ in range(sentences)
    ]
    return "".join(part + chance.choice((" ", "\n", "\n\n")) for part in parts).replace("\0", "{").replace("\1", "}")


def _filled(chance: random.Random, template: str) -> str:
    for name, high in (("{a}", 30), ("{b}", 99), ("{c}", 999), ("{d}", 9)):
        while name in template:
            template = template.replace(name, str(chance.randint(1, high)), 1)
    return template


# -- kinds of answers -------------------------------------------------------------------------------------------------


def _integer(chance: random.Random) -> Problem:
    n = chance.choice((chance.randint(-12, 60), chance.randint(0, 999), chance.randint(1, 9)))
    wrong = [str(n + k) for k in chance.sample((-2, -1, 1, 2, 3, 10, n or 5, -n or 7), 5)]
    return Problem(str(n), "numerical", (str(n), f"x = {n}", f"{n}.0", f"{n} \\text{{ units}}"), tuple(wrong))


def _fraction(chance: random.Random) -> Problem:
    x = Fraction(chance.randint(-30, 40) or 1, chance.choice((2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 25, 36, 49)))
    if x.denominator == 1:
        x += Fraction(1, 3)
    a, b, sign = abs(x.numerator), x.denominator, "-" if x < 0 else ""
    right = [f"{sign}\\frac{{{a}}}{{{b}}}", f"{sign}\\dfrac{{{a}}}{{{b}}}", f"{sign}{a}/{b}"]
    right += [f"{sign}\\frac{{{2 * a}}}{{{2 * b}}}", f"\\frac{{{sign}{a}}}{{{b}}}"]
    if b in (2, 4, 5, 8, 16, 25):
        right.append(str(float(x)))
    wrong = [f"{sign}\\frac{{{a + k}}}{{{b}}}" for k in (1, 2, b)] + [f"\\frac{{{b}}}{{{a}}}", str(a)]
    return Problem(right[0], "numerical", tuple(right), tuple(wrong))


def _decimal(chance: random.Random) -> Problem:
    cents = chance.randint(105, 99999)
    cents += cents % 10 == 0
    text = f"{cents / 100:.2f}"
    right = (text, f"\\${text}", f"{text} \\text{{ dollars}}", f"\\frac{{{cents}}}{{100}}")
    return Problem(text, "numerical", right, (f"{(cents + 100) / 100:.2f}", f"{cents // 100}", f"{cents / 10:.1f}"))


def _large(chance: random.Random) -> Problem:
    n = chance.randint(1000, 9_999_999)
    right = (str(n), f"{n:,}", f"{n:,}".replace(",", "{,}"), f"{n:,}".replace(",", ",\\!"))
    return Problem(chance.choice(right), "numerical", right, (str(n + 1), f"{n + 1000:,}", str(2 * n), str(n // 2)))


def _radical(chance: random.Random) -> Problem:
    k, r = chance.randint(2, 15), chance.choice((2, 3, 5, 6, 7, 10, 11, 13))
    right = (f"{k}\\sqrt{{{r}}}", f"{k} \\sqrt{{{r}}}", f"{k}\\sqrt {r}", f"\\sqrt{{{k * k * r}}}")
    wrong = (f"{k + 1}\\sqrt{{{r}}}", f"{k}\\sqrt{{{r + 1}}}", str(k * r), f"\\frac{{{k}\\sqrt{{{r}}}}}{{2}}")
    return Problem(right[0], "expression", right, wrong)


def _pi(chance: random.Random) -> Problem:
    k, d = chance.randint(1, 40), chance.choice((1, 1, 2, 3, 4, 6))
    if d == 1:
        right = (f"{k}\\pi", f"{k} \\pi", f"\\pi \\cdot {k}")
    else:
        right = (f"\\frac{{{k}\\pi}}{{{d}}}", f"\\frac{{{k}}}{{{d}}}\\pi", f"\\dfrac{{{k} \\pi}}{{{d}}}")
    return Problem(right[0], "expression", right, (f"{k + 1}\\pi", str(k), f"\\frac{{{k}\\pi}}{{7}}", f"{2 * k}\\pi^2"))


def _surd_sum(chance: random.Random) -> Problem:
    a, b, r, d = chance.randint(1, 20), chance.randint(2, 9), chance.choice((2, 3, 5, 7)), chance.choice((2, 3, 4))
    right = (f"\\frac{{{a} + {b}\\sqrt{{{r}}}}}{{{d}}}", f"\\frac{{{b}\\sqrt{{{r}}}+{a}}}{{{d}}}")
    right += (f"\\frac{{{a}}}{{{d}}} + \\frac{{{b}\\sqrt{{{r}}}}}{{{d}}}",)
    wrong = (f"\\frac{{{a} - {b}\\sqrt{{{r}}}}}{{{d}}}", f"{a} + {b}\\sqrt{{{r}}}", f"\\frac{{{a}}}{{{d}}}")
    return Problem(right[0], "expression", right, wrong)


def _polynomial(chance: random.Random) -> Problem:
    a, b, c = chance.randint(2, 9), chance.randint(1, 20), chance.randint(1, 30)
    right = (f"{a}x^2+{b}x-{c}", f"{a}x^2 + {b}x - {c}", f"{a}x^{{2}} + {b}x - {c}", f"-{c} + {b}x + {a}x^2")
    wrong = (f"{a}x^2-{b}x-{c}", f"{a}x^2+{b + 1}x-{c}", f"{a}x^3+{b}x", f"{a + 1}x^2+{b}x+{c}")
    return Problem(right[0], "expression", right, wrong)


def _factored(chance: random.Random) -> Problem:
    a, b = chance.randint(1, 12), chance.randint(13, 20)
    right = (f"(x-{a})(x+{b})", f"(x + {b})(x - {a})", f"(x - {a})(x + {b})", f"x^2 + {b - a}x - {a * b}")
    return Problem(right[0], "expression", right, (f"(x+{a})(x-{b})", f"(x-{a})(x-{b})", f"x^2-{a * b}"))


def _power(chance: random.Random) -> Problem:
    base, n = chance.choice((2, 3, 5)), chance.randint(6, 60)
    right = (f"{base}^{{{n}}}", f"{base} \\cdot {base}^{{{n - 1}}}")
    return Problem(right[0], "expression", right, (f"{base}^{{{n + 1}}}", f"{base}^{{{n - 2}}}", f"{n}^{{{base}}}"))


def _complex(chance: random.Random) -> Problem:
    a, b = chance.randint(1, 12), chance.randint(2, 12)
    return Problem(f"{a} - {b}i", "expression", (f"{a} - {b}i", f"{a}-{b}i", f"-{b}i + {a}"), (f"{a} + {b}i", f"{b}i"))


def _point(chance: random.Random) -> Problem:
    a, b, c = chance.randint(-9, 20), chance.randint(-9, 20), chance.randint(2, 9)
    if chance.random() < 0.3:
        right = (f"\\left( {c}, \\frac{{\\pi}}{{{c}}} \\right)", f"({c}, \\frac{{\\pi}}{{{c}}})", f"({c},\\pi/{c})")
        return Problem(right[0], "tuple", right, (f"\\left({c}, \\frac{{2\\pi}}{{{c}}}\\right)", f"({c}, \\pi)"))
    right = (
        f"({a},{b})",
        f"({a}, {b})",
        f"\\left({a}, {b}\\right)",
        f"\\left( {a}, {b} \\right)",
        f"(x, y) = ({a}, {b})",
    )
    return Problem(
        right[0], "tuple", right[:-1], (f"({b},{a})" if a != b else "(0,99)", f"({a},{b + 1})", f"({-a or 5},{b})")
    )


def _interval(chance: random.Random) -> Problem:
    a = chance.randint(-12, 5)
    b = a + chance.randint(1, 15)
    left, end = chance.choice("(["), chance.choice(")]")
    if chance.random() < 0.4:
        right = (f"(-\\infty,{a}{end} \\cup {left}{b},\\infty)", f"(-\\infty, {a}{end} \\cup {left}{b}, \\infty)")
        return Problem(right[0], "interval", right, (f"(-\\infty,{a}]", f"[{a},{b}]", f"({b},\\infty)"))
    right = (
        f"{left}{a},{b}{end}",
        f"{left}{a}, {b}{end}",
        f"x \\in {left}{a}, {b}{end}",
        f"\\left{left}{a},{b}\\right{end}",
    )
    return Problem(right[0], "interval", right, (f"{left}{a},{b + 1}{end}", f"(-\\infty,{b}{end}", f"[{a - 1},{b}]"))


def _several(chance: random.Random) -> Problem:
    numbers = chance.sample(range(-20, 40), chance.randint(2, 4))
    text = [str(n) for n in numbers]
    turned = text[::-1]
    right = (",".join(text), ", ".join(text), ", ".join(turned), "\\{" + ", ".join(text) + "\\}")
    right += (", ".join(text[:-1]) + " \\text{ and } " + text[-1],)
    return Problem(right[0], "multiple", right, (", ".join(text[:-1]), ", ".join([*text[:-1], "99"]), text[0]))


def _text(chance: random.Random) -> Problem:
    words = ["Evelyn", "Maria", "even", "odd", "circle", "ellipse", "hyperbola", "east", "Friday", "isosceles"]
    word, other, third = chance.sample(words, 3)
    return Problem(f"\\text{{{word}}}", "expression", (f"\\text{{{word}}}", word), (f"\\text{{{other}}}", third))


def _choice(chance: random.Random) -> Problem:
    letter, other, third = chance.sample("ABCDE", 3)
    right = (f"\\text{{({letter})}}", letter, f"\\text{{{letter}}}", f"({letter})")
    return Problem(right[0], "expression", right, (other, f"\\text{{({third})}}"))


def _matrix(chance: random.Random) -> Problem:
    a, b, c, d = (chance.randint(-9, 9) for _ in range(4))
    text = f"\\begin{{pmatrix}} {a} & {b} \\\\ {c} & {d} \\end{{pmatrix}}"
    right = (text, text.replace(" ", "").replace("\\\\", " \\\\ "), text.replace("pmatrix", "bmatrix"))
    wrong = (f"\\begin{{pmatrix}} {a} & {c} \\\\ {b} & {d + 1} \\end{{pmatrix}}", str(a * d - b * c))
    return Problem(text, "expression", right, wrong)


def _equation(chance: random.Random) -> Problem:
    a, b = chance.randint(2, 9), chance.randint(1, 20)
    right = (f"y = {a}x + {b}", f"y={a}x+{b}", f"{a}x - y + {b} = 0", f"{a}x+{b}")
    return Problem(right[0], "equation", right, (f"y = {a}x - {b}", f"y = {b}x + {a}", f"y = -\\frac{{1}}{{{a}}}x"))


def _degrees(chance: random.Random) -> Problem:
    n = chance.randint(10, 170)
    right = (f"{n}^\\circ", f"{n}", f"{n}^{{\\circ}}", f"{n} \\text{{ degrees}}")
    return Problem(
        chance.choice(right[:2]), "numerical", right, (f"{180 - n + 1}^\\circ", f"{n + 5}", f"{n // 2}^\\circ")
    )


def _unit(chance: random.Random) -> Problem:
    n, unit = chance.randint(2, 90), chance.choice(("inches", "cm", "miles", "square units", "hours", "cubic feet"))
    right = (f"{n}", f"{n} \\text{{ {unit}}}", f"{n}\\,\\text{{{unit}}}")
    return Problem(chance.choice(right[:2]), "numerical", right, (f"{n + 1}", f"{2 * n} \\text{{ {unit}}}"))


def _percent(chance: random.Random) -> Problem:
    n = chance.randint(2, 95)
    right = (f"{n}\\%", f"{n}", f"{n}%", f"{n} \\%")
    return Problem(chance.choice(right[:2]), "numerical", right, (f"{n + 1}\\%", f"{100 - n + 1}", f"{2 * n}\\%"))


def _base(chance: random.Random) -> Problem:
    digits, base = chance.randint(100, 4444), chance.randint(5, 9)
    return Problem(
        f"{digits}_{base}", "expression", (f"{digits}_{base}", f"{digits}_{{{base}}}"), (f"{digits + 1}_{base}",)
    )


def _mixed(chance: random.Random) -> Problem:
    n, a, b = chance.randint(1, 20), *chance.choice(((1, 2), (1, 3), (3, 4), (2, 5), (5, 8)))
    right = (f"{n}\\frac{{{a}}}{{{b}}}", f"\\frac{{{n * b + a}}}{{{b}}}", f"{n} \\frac{{{a}}}{{{b}}}")
    return Problem(chance.choice(right[:2]), "numerical", right, (f"{n}", f"\\frac{{{n * b + a + 1}}}{{{b}}}"))


KINDS: tuple[tuple[Callable[[random.Random], Problem], float], ...] = (
    (_integer, 58),
    (_fraction, 12),
    (_decimal, 2),
    (_large, 2.5),
    (_radical, 4),
    (_pi, 2.5),
    (_surd_sum, 1.5),
    (_polynomial, 2.5),
    (_factored, 1),
    (_power, 0.5),
    (_complex, 0.7),
    (_point, 3.5),
    (_interval, 2),
    (_several, 2),
    (_text, 1),
    (_choice, 0.7),
    (_matrix, 0.7),
    (_equation, 1),
    (_degrees, 1.2),
    (_unit, 1.5),
    (_percent, 1),
    (_base, 0.5),
    (_mixed, 0.7),
)
