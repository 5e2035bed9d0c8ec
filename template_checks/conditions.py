"""Patterns and conditions of policies, evaluated as IAM does if a template contains only some of the request.

Every verdict is True, False, or None if something outside the templates decides. An unknown part of a text is
written ``${…}`` and may be anything; a generated name, ``<stack.logical id>``. A text that begins with ``!``
belongs to a stranger: nothing in a template refers to it. Source: "IAM JSON policy elements: Condition
operators" and "Multivalued context keys" in the IAM User Guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

STRANGER = "!"


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return whether all hold; None if unknown ones decide."""
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found else True


def any_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return whether any holds; None if unknown ones decide."""
    found = list(verdicts)
    if True in found:
        return True
    return None if None in found else False


def negated(verdict: bool | None) -> bool | None:
    """Return the opposite; the opposite of unknown is unknown."""
    return None if verdict is None else not verdict


# --- patterns ---------------------------------------------------------------------------------------------


def covers(pattern: str, wanted: str) -> bool | None:
    """Return whether a pattern with ``*`` and ``?`` matches a text; None if an unknown part decides."""
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
    """Return whether a pattern matches one resource, which has each of these spellings.

    A reference beside an ARN matches only itself: for unknown parts, the ARN decides.
    """
    has_arn = any(spelling.startswith("arn:") for spelling in spellings)
    return any_of(
        matches(pattern, spelling) if has_arn and spelling.startswith("<") else covers(pattern, spelling)
        for spelling in spellings
    )


def matches(pattern: str, subject: str) -> bool:
    """Return whether a pattern with ``*`` and ``?`` surely matches a text."""
    return _expression(pattern).fullmatch(subject) is not None


def equals(one: str, other: str) -> bool | None:
    """Return whether two texts are the same; None if an unknown part decides."""
    if one == other:
        return True
    if ("${" not in one and "${" not in other) or STRANGER in (one[:1], other[:1]):
        return False
    return None if _may_meet(_signs(one, wildcards=False), _signs(other, wildcards=False)) else False


def _may_cover(pattern: str, wanted: str) -> bool:
    """Return whether both can match the same text. In an ARN, an unknown value stays within its part."""
    left, right = _parts(pattern), _parts(wanted)
    if len(left) == len(right) == _PARTS_OF_ARN:
        return all(overlaps(one, other) for one, other in zip(left, right, strict=True))
    return overlaps(pattern, wanted)


_PARTS_OF_ARN = 6


@lru_cache(maxsize=4096)
def _parts(arn: str) -> list[str]:
    """Return the parts of an ARN, the last with the rest; the text alone if it is no ARN."""
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
    """Return whether two patterns can match the same text, if unknown parts may be anything."""
    return _may_meet(_signs(one, wildcards=True), _signs(other, wildcards=True))


_ANY, _ONE, _LETTER = "\0any", "\0one", "\0letter"
MADE_UP = "${made up for "
"""Beginning of a name that CloudFormation generates: it starts with the stack's, so with a letter."""


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
    """Let a part that may be anything be empty."""
    for j, sign in enumerate(signs):
        reachable[j + 1] |= reachable[j] and sign == _ANY
    return reachable


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"([*?])", pattern)
    expression = "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts)
    return re.compile(expression, re.DOTALL)


# --- conditions -------------------------------------------------------------------------------------------
_VARIABLE = re.compile(r"\$\{([a-z0-9-]+:[^}:,]+)(?:,\s*'[^']*')?\}", re.I)
"""``${aws:PrincipalTag/tenant}``: a policy variable, filled in from the request. An unknown value has two
colons (``${AWS::Region}``) or a dot (``${Network.Vpc}``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The condition keys of a request, in lower case.

    ``known`` has each key's values; every spelling of a value that has several (an ARN, the reference to it).
    A key that begins like one of ``absent`` and is not known is not in the request. Any other key is unknown.
    """

    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    absent: tuple[str, ...] = ()

    def values(self, key: str) -> tuple[str, ...] | None:
        """Return a key's values: empty if it is not in the request, None if that is unknown."""
        key = key.lower()
        if key in self.known:
            return self.known[key]
        return () if key.startswith(self.absent) and self.absent else None

    def filled_in(self, text: str) -> str | None:
        """Return a policy's text with its variables filled in; None if one is not in the request."""
        for name in _VARIABLE.findall(text):
            values = self.values(name)
            if values == ():
                return None
            if values is not None and len(values) == 1:
                text = _VARIABLE.sub(
                    lambda found, name=name, value=values[0]: value if found[1] == name else found[0], text
                )
        return text


def conditions_hold(conditions: Mapping[str, Mapping[str, tuple[str, ...]]], context: Context) -> bool | None:
    """Return whether every operator holds for each of its keys."""
    return all_of(
        _holds(operator, values, context.values(key), context)
        for operator, keys in conditions.items()
        for key, values in keys.items()
    )


def _holds(
    name: str, wanted: tuple[str, ...], asked: tuple[str, ...] | None, context: Context
) -> bool | None:
    quantifier, _, name = name.rpartition(":")
    if name == "Null":
        is_absent = None if asked is None else not asked
        return any_of(is_absent if value.lower() == "true" else negated(is_absent) for value in wanted)
    if_exists = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    is_negated = "Not" in name
    compare = _COMPARISONS.get(name.replace("Not", "", 1))
    if asked is None or compare is None:
        return None
    if not asked:
        if if_exists or quantifier == "ForAllValues":
            return True
        return is_negated and quantifier != "ForAnyValue"
    texts = [filled for filled in map(context.filled_in, wanted) if filled is not None]
    # Spellings of one value match if any of them does. Several values are treated like several spellings;
    # for keys with one value that is the same.
    has_arn = any(one.startswith("arn:") for one in asked)
    verdict = any_of(
        value == one if has_arn and one.startswith("<") else compare(value, one)
        for value in texts
        for one in asked
    )
    return negated(verdict) if is_negated else verdict


def _equals_ignoring_case(wanted: str, asked: str) -> bool | None:
    return equals(wanted.lower(), asked.lower())


_COMPARISONS: Mapping[str, Callable[[str, str], bool | None]] = {
    "StringEquals": equals,
    "StringEqualsIgnoreCase": _equals_ignoring_case,
    "StringLike": covers,
    "ArnEquals": covers,
    "ArnLike": covers,
    "BinaryEquals": equals,
    "Bool": _equals_ignoring_case,
}
"""By operator; a condition with another one is undecided.

``Not`` in an operator's name negates it: it then holds if the key is absent."""
