"""Cuts a text at any places, as a tokenizer and a network might."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st


def cuts(text: str, data: st.DataObject) -> list[str]:
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted), label="cuts")
    return [text[start:end] for start, end in pairwise([0, *places, len(text)])]
