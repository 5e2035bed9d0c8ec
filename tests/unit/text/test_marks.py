from __future__ import annotations

from itertools import combinations

from assistant.text import marks
from assistant.text.marks import Marks


def test_each_mark_means_one_thing() -> None:
    numbered = (marks.ELEMENTS, marks.EXCERPTS)
    assert all(one.last < other.first for one, other in combinations(numbered, 2))
    signs = (
        *(marks.LINK_BEGIN, marks.LINK_WORDS, marks.LINK_END, marks.PAGE_FIELD),
        *(marks.RAISED, marks.LOWERED, marks.STRUCK, marks.RUN_END),
    )
    assert len(set(signs)) == len(signs)
    assert not any(sign in block for sign in signs for block in numbered)


def test_a_mark_is_read_as_it_was_set() -> None:
    block = Marks(0xE000, 0xE03F)
    assert [block.number(block.mark(number)) for number in (0, 63)] == [0, 63]
    assert (block.mark(63) in block, "\ue040" in block, len(block)) == (True, False, 64)
