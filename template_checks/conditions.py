"""Conditions of policy statements, as IAM evaluates them, where a template tells only some of the request.

Every answer is True, False, or None: what no template tells decides. Source: "IAM JSON policy elements:
Condition operators" and "Multivalued context keys" in the IAM User Guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_network

from template_checks.patterns import covers, equals

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
