"""Texts and patterns of policies, of which a template may tell only a part.

A part that no template tells stands as ``${…}`` and may be anything; a name that AWS makes up, as
``<stack.logical id>``. A text that begins with ``!`` is a stranger's: nothing in a template refers to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

STRANGER = "!"


def covers(pattern: str, wanted: str) -> bool | None:
    """Return whether a pattern with ``*`` and ``?`` holds a text; None where what is not known decides."""
    if matches(pattern, wanted):
        return True
    if wanted.startswith(STRANGER):
        return False
    if wanted.startswith("<") and not pattern.startswith("<"):
        return None if "${" in pattern or "*" in pattern else False
    if "${" in pattern or "${" in wanted:
        return None if _may_cover(pattern, wanted) else False
    head = pattern.partition("/")[0]
    is_made_up = wanted.startswith("arn:aws:s3:::<")
    return None if is_made_up and "*" in head and "<" not in head else False


def covers_spelt(pattern: str, spellings: Sequence[str]) -> bool | None:
    """Return whether a pattern holds one thing, which is spelt in each of these ways.

    A reference beside an ARN is held only by itself: for what is not known, the ARN answers.
    """
    has_arn = any(spelling.startswith("arn:") for spelling in spellings)
    verdicts = [
        matches(pattern, spelling) if has_arn and spelling.startswith("<") else covers(pattern, spelling)
        for spelling in spellings
    ]
    return True if True in verdicts else (None if None in verdicts else False)


def matches(pattern: str, subject: str) -> bool:
    """Return whether a pattern with ``*`` and ``?`` holds a text, letter by letter."""
    return _expression(pattern).fullmatch(subject) is not None


def equals(one: str, other: str) -> bool | None:
    """Return whether two texts are the same; None where what is not known decides."""
    if one == other:
        return True
    if ("${" not in one and "${" not in other) or STRANGER in (one[:1], other[:1]):
        return False
    return None if _may_meet(_signs(one, wildcards=False), _signs(other, wildcards=False)) else False


def _may_cover(pattern: str, wanted: str) -> bool:
    """Return whether they can hold the same text; in ARNs, what is unknown goes no further than its part."""
    left, right = _parts(pattern), _parts(wanted)
    if len(left) == len(right) == _PARTS_OF_ARN:
        return all(overlaps(one, other) for one, other in zip(left, right, strict=True))
    return overlaps(pattern, wanted)


_PARTS_OF_ARN = 6


@lru_cache(maxsize=4096)
def _parts(arn: str) -> list[str]:
    """Return the parts of an ARN, the last with all that is left; the text alone where it is none."""
    if not arn.startswith("arn:"):
        return [arn]
    signs = re.findall(r"\$\{[^}]*\}|[^:$]+|\$|:", arn)
    parts = [""]
    for sign in signs:
        if sign == ":" and len(parts) < _PARTS_OF_ARN:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


@lru_cache(maxsize=4096)
def overlaps(one: str, other: str) -> bool:
    """Return whether two patterns can hold the same text, when what is unknown in them may be anything."""
    return _may_meet(_signs(one, wildcards=True), _signs(other, wildcards=True))


_ANY, _ONE, _LETTER = "\0any", "\0one", "\0letter"
MADE_UP = "${made up for "
"""How a name begins that CloudFormation makes up: with the stack's, so with a letter."""


def _signs(text: str, *, wildcards: bool) -> list[str]:
    signs: list[str] = []
    for sign in re.findall(r"\$\{[^}]*\}|.", text, re.DOTALL):
        if sign.startswith("${") or (wildcards and sign == "*"):
            signs += [_LETTER, _ANY] if sign.startswith(MADE_UP) else [_ANY]
        else:
            signs.append(_ONE if wildcards and sign == "?" else sign)
    return signs


def _may_meet(left: Sequence[str], right: Sequence[str]) -> bool:
    # reachable[j]: what was read of `left` fits the first j signs of `right`.
    reachable = _skipping(right, [True, *([False] * len(right))])
    for sign in left:
        following = [False] * (len(right) + 1)
        for j, fits in enumerate(reachable):
            if fits and sign == _ANY:
                following[j:] = [True] * (len(right) + 1 - j)
                break
            if fits and j < len(right) and right[j] == _ANY:
                following[j] = True
            elif fits and j < len(right) and _fits(sign, right[j]):
                following[j + 1] = True
        reachable = _skipping(right, following)
    return reachable[-1]


def _fits(one: str, other: str) -> bool:
    if one == other or _ONE in (one, other):
        return True
    return _LETTER in (one, other) and (one + other).replace(_LETTER, "").isalpha()


def _skipping(signs: Sequence[str], reachable: list[bool]) -> list[bool]:
    """Let what may be anything be nothing."""
    for j, sign in enumerate(signs):
        reachable[j + 1] |= reachable[j] and sign == _ANY
    return reachable


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"([*?])", pattern)
    expression = "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts)
    return re.compile(expression, re.DOTALL)
