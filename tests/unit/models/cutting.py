"""Byte strings cut at positions that hypothesis chooses."""

from __future__ import annotations

from hypothesis import strategies as st


def cut_anywhere(stream: bytes, data: st.DataObject) -> list[bytes]:
    positions = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20), label="cuts"))
    return [stream[start:end] for start, end in zip([0, *positions], [*positions, len(stream)], strict=True)]
