"""Texts and patterns of policies, of which a template may tell only a part.

A part that no template tells stands as ``${…}`` and may be anything; a name that AWS makes up, as
``<stack.logical id>``. A text that begins with ``!`` is a stranger's: nothing in a template refers to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_network

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


# Conditions of policy statements, as IAM evaluates them, where a template tells only some of the request.


_VARIABLE = re.compile(r"\$\{([a-z0-9-]+:[^}:,]+)(?:,\s*'[^']*')?\}", re.I)
"""``${aws:PrincipalTag/tenant}``: a policy variable, filled in from the request. A reference that no template
tells has two colons (``${AWS::Region}``) or a dot (``${Network.Vpc}``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The condition keys of a request, in lower case.

    ``known`` holds each key's values, of which one that has several spellings (an ARN, the reference to it)
    holds all of them. A key that begins as one of ``absent`` does and is not known is not in the request.
    Any other key is unknown.
    """

    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    absent: tuple[str, ...] = ()

    def values(self, key: str) -> tuple[str, ...] | None:
        """Return a key's values: none where it is not in the request, None where that is unknown."""
        key = key.lower()
        if key in self.known:
            return self.known[key]
        return () if key.startswith(self.absent) and self.absent else None

    def filled_in(self, text: str) -> str | None:
        """Return a policy's text with its variables; None where one of them is not in the request."""
        for name in _VARIABLE.findall(text):
            values = self.values(name)
            if values == ():
                return None
            if values is not None and len(values) == 1:
                text = _VARIABLE.sub(
                    lambda found, name=name, value=values[0]: value if found[1] == name else found[0], text
                )
        return text


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return whether all hold; None where unknown ones decide."""
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found else True


def any_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return whether any holds; None where unknown ones decide."""
    found = list(verdicts)
    if True in found:
        return True
    return None if None in found else False


def negated(verdict: bool | None) -> bool | None:
    """Return the opposite; the opposite of unknown is unknown."""
    return None if verdict is None else not verdict


def conditions_hold(conditions: Mapping[str, Mapping[str, tuple[str, ...]]], context: Context) -> bool | None:
    """Return whether every operator holds for every key of it."""
    return all_of(
        _holds(operator, values, context.values(key), context)
        for operator, keys in conditions.items()
        for key, values in keys.items()
    )


def _holds(
    operator: str, wanted: tuple[str, ...], asked: tuple[str, ...] | None, context: Context
) -> bool | None:
    quantifier, _, name = operator.rpartition(":")
    if name == "Null":
        is_absent = None if asked is None else not asked
        return any_of(is_absent if value.lower() == "true" else negated(is_absent) for value in wanted)
    if_exists = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    compare = _COMPARISONS.get(_POSITIVE.get(name, name))
    if asked is None or compare is None:
        return None
    is_negated = name in _POSITIVE
    if not asked:
        if if_exists or quantifier == "ForAllValues":
            return True
        return is_negated and quantifier != "ForAnyValue"
    texts = [filled for filled in map(context.filled_in, wanted) if filled is not None]
    # Spellings of one value: it matches where any of them does. Several values are not told apart from
    # several spellings, which for keys with one value is the same.
    is_spelt_out = any(one.startswith("arn:") for one in asked)
    verdict = any_of(
        value == one if is_spelt_out and one.startswith("<") else compare(value, one)
        for value in texts
        for one in asked
    )
    return negated(verdict) if is_negated else verdict


def _numbers(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool | None]:
    def compared(wanted: str, asked: str) -> bool | None:
        try:
            return compare(float(asked), float(wanted))
        except ValueError:
            return None

    return compared


def _dates(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool | None]:
    def compared(wanted: str, asked: str) -> bool | None:
        try:
            return compare(
                *(datetime.fromisoformat(one.replace("Z", "+00:00")).timestamp() for one in (asked, wanted))
            )
        except ValueError:
            return None

    return compared


def _same_but_for_case(wanted: str, asked: str) -> bool | None:
    return equals(wanted.lower(), asked.lower())


def _within(wanted: str, asked: str) -> bool | None:
    try:
        block, address = ip_network(wanted, strict=False), ip_network(asked, strict=False)
    except ValueError:
        return None
    first, last = int(address.network_address), int(address.broadcast_address)
    is_inside = int(block.network_address) <= first and last <= int(block.broadcast_address)
    return block.version == address.version and is_inside


_COMPARISONS: Mapping[str, Callable[[str, str], bool | None]] = {
    "StringEquals": equals,
    "StringEqualsIgnoreCase": _same_but_for_case,
    "StringLike": covers,
    "ArnEquals": covers,
    "ArnLike": covers,
    "BinaryEquals": equals,
    "Bool": _same_but_for_case,
    "IpAddress": _within,
    "NumericEquals": _numbers(lambda asked, wanted: asked == wanted),
    "NumericLessThan": _numbers(lambda asked, wanted: asked < wanted),
    "NumericLessThanEquals": _numbers(lambda asked, wanted: asked <= wanted),
    "NumericGreaterThan": _numbers(lambda asked, wanted: asked > wanted),
    "NumericGreaterThanEquals": _numbers(lambda asked, wanted: asked >= wanted),
    "DateEquals": _dates(lambda asked, wanted: asked == wanted),
    "DateLessThan": _dates(lambda asked, wanted: asked < wanted),
    "DateLessThanEquals": _dates(lambda asked, wanted: asked <= wanted),
    "DateGreaterThan": _dates(lambda asked, wanted: asked > wanted),
    "DateGreaterThanEquals": _dates(lambda asked, wanted: asked >= wanted),
}
_POSITIVE: Mapping[str, str] = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NotIpAddress": "IpAddress",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
}
"""A negated operator and what it negates: it holds where the key is absent."""
