"""Bodies of any size in items of at most 400 KB."""

from __future__ import annotations

from random import Random

import pytest

from assistant.stores.formats import StoredBody, load_body, part_names, store_text

MOST_BYTES = 400 * 1024
SIZES = [0, 1, 32 * 1024, 32 * 1024 + 1, 350 * 1024, 350 * 1024 + 1, 2_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_text_comes_back_whole(size: int) -> None:
    text = "".join(Random(size).choices("µ→a\n", k=size))  # noqa: S311 : no secret
    assert _loaded(store_text(text)).decode() == text


@pytest.mark.parametrize("size", SIZES)
def test_no_item_is_too_large(size: int) -> None:
    stored = store_text(Random(size).randbytes(size).hex())  # noqa: S311 : no secret
    room_for_keys = 4096
    for attributes in (stored.attributes, *(part for _, part in stored.parts)):
        assert sum(map(_size, attributes.values())) + room_for_keys <= MOST_BYTES


def test_a_small_text_can_be_read_in_the_table() -> None:
    assert store_text('{"text":"Day 24."}').attributes == {"body": '{"text":"Day 24."}'}


def test_what_compresses_takes_one_item() -> None:
    assert store_text("On day 24. " * 100_000).parts == ()


def test_parts_of_other_content_have_other_names() -> None:
    first, second = (store_text(Random(seed).randbytes(800_000).hex()) for seed in (1, 2))  # noqa: S311 : no secret
    assert not {name for name, _ in first.parts} & {name for name, _ in second.parts}


def _loaded(stored: StoredBody) -> bytes:
    parts = dict(stored.parts)
    return load_body(stored.attributes, [parts[name] for name in part_names(stored.attributes)])


def _size(value: str | bytes | list[str]) -> int:
    if isinstance(value, list):
        return sum(_size(entry) + 4 for entry in value)
    return len(value.encode() if isinstance(value, str) else value)
