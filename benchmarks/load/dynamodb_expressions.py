"""DynamoDB's condition, key condition and update expressions on items in memory: as much as adapters use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Attribute = dict[str, Any]
"""A typed value: ``{"S": "…"}``, ``{"N": "7"}``."""
Item = dict[str, Attribute]
_TOKEN = re.compile(r"\s*(:?#?[\w.\-]+|<>|<=|>=|[=<>(),+\-])")
_CLAUSES = ("SET", "REMOVE", "ADD", "DELETE")


class ExpressionError(Exception):
    """An expression that this stand-in does not understand: it must learn it, or the adapter is wrong."""


def comparable(attribute: Attribute | None) -> Any:
    """Return a value that sorts as DynamoDB sorts it; None for an absent attribute."""
    if attribute is None:
        return None
    (kind, value), *_ = attribute.items()
    return float(value) if kind == "N" else value


class Expression:
    """One expression with the names and values of its request, read against an item."""

    def __init__(self, text: str, request: Mapping[str, Any]) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._names: Mapping[str, str] = request.get("ExpressionAttributeNames") or {}
        self._values: Mapping[str, Attribute] = request.get("ExpressionAttributeValues") or {}
        self._item: Item = {}

    def holds(self, item: Item) -> bool:
        """Say whether a condition holds of the item; an absent item is empty."""
        self._item, self._at = item, 0
        found = self._either()
        self._require_end()
        return found

    def update(self, item: Item) -> Item:
        """Return the item as an update expression leaves it."""
        self._item, self._at = item, 0
        changed = dict(item)
        while self._at < len(self._tokens):
            clause = self._take().upper()
            if clause not in _CLAUSES:
                raise ExpressionError(f"an update clause {clause}")
            self._clause(clause, changed)
            while self._next() == ",":
                self._take()
                self._clause(clause, changed)
        return changed

    def _clause(self, clause: str, changed: Item) -> None:
        name = self._name(self._take())
        if clause == "SET":
            self._expect("=")
            changed[name] = self._sum()
        elif clause == "REMOVE":
            changed.pop(name, None)
        elif clause == "ADD":
            changed[name] = _added(changed.get(name), self._operand())
        else:
            raise ExpressionError("DELETE from a set")

    def _either(self) -> bool:
        found = self._both()
        while self._next().upper() == "OR":
            self._take()
            other = self._both()
            found = found or other
        return found

    def _both(self) -> bool:
        found = self._one()
        while self._next().upper() == "AND":
            self._take()
            other = self._one()
            found = found and other
        return found

    def _one(self) -> bool:
        word = self._next()
        if word.upper() == "NOT":
            self._take()
            return not self._one()
        if word == "(":
            self._take()
            found = self._either()
            self._expect(")")
            return found
        if word in _FUNCTIONS:
            return self._function(self._take())
        return self._comparison()

    def _function(self, name: str) -> bool:
        self._expect("(")
        subject = self._item.get(self._name(self._take()))
        other: Attribute | None = None
        if self._next() == ",":
            self._take()
            other = self._operand()
        self._expect(")")
        return _FUNCTIONS[name](subject, other)

    def _comparison(self) -> bool:
        left, operator = comparable(self._maybe()), self._take()
        if operator.upper() == "BETWEEN":
            low = comparable(self._operand())
            self._expect("AND")
            high = comparable(self._operand())
            return left is not None and low <= left <= high
        right = comparable(self._maybe())
        if operator not in _COMPARISONS:
            raise ExpressionError(f"a comparison {operator}")
        if left is None or right is None:
            return operator == "<>" and left is not right
        return _COMPARISONS[operator](left, right)

    def _sum(self) -> Attribute:
        value = self._operand()
        while self._next() in ("+", "-"):
            sign = self._take()
            value = _added(value, self._operand(), sign=-1 if sign == "-" else 1)
        return value

    def _maybe(self) -> Attribute | None:
        """Return an operand, None when it is an attribute that the item does not have."""
        token = self._take()
        return self._values[token] if token.startswith(":") else self._item.get(self._name(token))

    def _operand(self) -> Attribute:
        if self._next() == "if_not_exists":
            self._take()
            self._expect("(")
            present = self._maybe()
            self._expect(",")
            otherwise = self._operand()
            self._expect(")")
            return otherwise if present is None else present
        found = self._maybe()
        if found is None:
            raise ExpressionError("an attribute that the item does not have")
        return found

    def _name(self, token: str) -> str:
        return self._names[token] if token.startswith("#") else token

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        self._at += 1
        if self._at > len(self._tokens):
            raise ExpressionError("an expression without its end")
        return self._tokens[self._at - 1]

    def _expect(self, token: str) -> None:
        if self._take().upper() != token:
            raise ExpressionError(f"{self._tokens[self._at - 1]} where {token} was expected")

    def _require_end(self) -> None:
        if self._next():
            raise ExpressionError(f"{self._next()} after the end")


def _tokens(text: str) -> list[str]:
    found = _TOKEN.findall(text)
    if "".join(found) != re.sub(r"\s+", "", text):
        raise ExpressionError(f"the expression {text!r}")
    return found


def _added(present: Attribute | None, more: Attribute, *, sign: int = 1) -> Attribute:
    if "N" not in more:
        raise ExpressionError("adding what is no number")
    total = float(present["N"] if present else 0) + sign * float(more["N"])
    return {"N": str(int(total) if total.is_integer() else total)}


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda left, right: left == right,
    "<>": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_FUNCTIONS: Mapping[str, Callable[[Attribute | None, Attribute | None], bool]] = {
    "attribute_exists": lambda subject, _: subject is not None,
    "attribute_not_exists": lambda subject, _: subject is None,
    "begins_with": lambda subject, start: str(comparable(subject) or "").startswith(str(comparable(start))),
    "contains": lambda subject, part: comparable(part) in (comparable(subject) or ""),
}
