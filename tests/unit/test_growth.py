"""Quadratic work grows too much and linear work does not, whatever they cost."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.unit.growth import MOST_GROWTH, growth


def text_of(size: int) -> str:
    return "baaaaaaaaaaaaaaa" * (size // 16)


def count_again(text: str) -> None:
    for _ in text[::8]:
        text.count("b")


def nested_lists(text: str) -> None:
    """Look through all open elements at each tag, as parsers of HTML do."""
    opened: list[str] = []
    for tag in re.findall("b", text):
        assert "p" not in opened
        opened.append(tag)


QUADRATIC: dict[str, Callable[[str], object]] = {
    "a pattern that tries again at each b": lambda text: re.findall("b[ab]*c", text),
    "a pass for each part": count_again,
    "a search of all that is open": nested_lists,
}
LINEAR: dict[str, Callable[[str], object]] = {
    "a pattern": lambda text: re.findall("a", text),
    "nothing": lambda text: None,
    "a fixed cost": lambda text: sum(range(100_000)),
}


@pytest.mark.parametrize("name", QUADRATIC)
def test_quadratic_work_grows_too_much(name: str) -> None:
    assert growth(QUADRATIC[name], text_of) > MOST_GROWTH


@pytest.mark.parametrize("name", LINEAR)
def test_linear_work_does_not_grow(name: str) -> None:
    assert growth(LINEAR[name], text_of) <= MOST_GROWTH
