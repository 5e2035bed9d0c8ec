"""Near-duplicates: which texts are alike, and what a family is."""

from __future__ import annotations

from assistant.options.models_lab.training_sets import Alike, families

FIRST = "a warm insulin parcel must be reported within two working days"
NEAR = FIRST + " please"
FAR = "an early refill is payable once a year and the claims desk decides"


def test_texts_with_most_word_triples_in_common_are_one_family() -> None:
    assert families([FIRST, FAR, NEAR.upper()]) == [0, 1, 0]


def test_a_text_that_is_alike_to_two_joins_their_families() -> None:
    longer = f"{NEAR} do"
    assert families([FIRST, f"{longer} it"]) == [0, 1]
    assert families([FIRST, f"{longer} it", NEAR]) == [0, 0, 0]


def test_sets_are_alike_from_the_asked_share_on() -> None:
    known = Alike(0.5)
    for parts in ("ab", "abcd", "xy"):
        known.add(frozenset(parts))
    assert known.of(frozenset("ab")) == [0, 1]
    assert known.of(frozenset("abc")) == [0, 1]
    assert known.of(frozenset("q")) == []
