"""Words of one language: folding, content words, stems, rarity, what is denied."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.text.language import Language, fold, language

ENGLISH = language("en")
ENDINGS = [f"{one}{ending}" for one in "abcdefgh" for ending in ("ing", "ations", "ed", "ness", "fully")]


def test_typographic_apostrophes_and_wide_forms_are_folded() -> None:
    assert fold("Can\u2019t \uff21\uff11") == "can't a1"


def test_a_commonplace_says_less_than_a_rare_word() -> None:
    assert ENGLISH.rarity("house") < ENGLISH.rarity("soap") < ENGLISH.rarity("semaglutide") == 1.0


def test_an_unknown_language_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match='language = "tlh"'):
        language("tlh")


def test_words_are_stemmed_alike_by_several_threads() -> None:
    """The stemmer keeps the word in itself: two at once would mix two words."""
    words = [f"{stem}{ending}" for stem in ("refill", "prescript", "medic", "store") for ending in ENDINGS]
    alone = [Language(algorithm="english", stop_words=frozenset(), ranks={}).stem(word) for word in words]
    shared = Language(algorithm="english", stop_words=frozenset(), ranks={})
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(shared.stem, words * 5)) == alone * 5
    finally:
        sys.setswitchinterval(before)
