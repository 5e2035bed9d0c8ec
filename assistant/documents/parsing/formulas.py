"""Writes formulas on one line: "(140 - age)/72", "x^2"."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LEAVES = frozenset(["mi", "mn", "mo", "mtext", "m_r"])
_ONE = re.compile(r"[\u2212-]?[\d.,]*|[^\W\d]+|\([^()]*\)")
"""An operand that needs no parentheses: a number, a name, or what has some already."""


def linear(tag: str, parts: Sequence[str], inner: Sequence[str] = ()) -> str:
    """Return an element of MathML, or of Office's formulas, by its parts, which are lines already; ``inner``:
    their tags."""
    match tag, [part if _ONE.fullmatch(part) else f"({part})" for part in map(str.strip, parts)]:
        case "mfrac" | "m_f", [above, below]:
            return f"{above}/{below}"
        case "msup" | "mover" | "m_sSup" | "m_limUpp", [base, power]:
            return f"{base}^{power}"
        case "msub" | "munder" | "m_sSub" | "m_limLow", [base, index]:
            return f"{base}_{index}"
        case "msubsup" | "munderover" | "m_sSubSup", [base, index, power]:
            return f"{base}_{index}^{power}"
        case "mroot", [base, degree]:
            return f"{base}^(1/{degree})"
        case "msqrt", _:
            return f"\u221a({''.join(parts)})"
        case "mtable" | "m_m" | "m_eqArr", _:
            return "; ".join(parts)
        case "mtr" | "m_mr", _:
            return ", ".join(parts)
        case _:
            return _joined(parts, inner)


def _joined(parts: Sequence[str], tags: Sequence[str]) -> str:
    """Return the parts with a space where two would become one word or number."""
    line, last = "", ""
    for part, tag in zip(parts, tags, strict=False):
        is_apart = not {tag, last} <= _LEAVES and line[-1:].isalnum() and part[:1].isalnum()
        line += f" {part}" if is_apart else part
        last = tag
    return line
