"""Words of one language: folding, content words, stems, rarity, what is denied."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.text.language import Language, fold, is_compound, language, tells_language

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


TEXTS = {
    "en": "Bring the card to the desk and wait there until your name is called, then go to room four.",
    "es": "Los que no han pagado la cuota del año deben ir con su tarjeta a la sala y pedir un plazo.",
    "de": "Geben Sie die Karte am Schalter ab und warten Sie dort, bis man Sie in das Zimmer ruft.",
    "pl": "Proszę przynieść kartę do okienka i czekać tam, aż ktoś wywoła nazwisko, a potem iść na salę.",
    "ht": "Pote kat la nan biwo a epi tann la jouk yo rele non ou, apre sa ale nan chanm kat la.",
    "shorthand": "Give 2 tabs po q6h prn for pain, hold if no BM, call MD if no relief after the last dose.",
    "rows": "Aspirin tab 81 mg no limit, Cetirizine syrup 5 ml by age, Loratadine tab 10 mg one a day.",
}
EXCHANGED = str.maketrans("etaoinsrhldcumfpgwyb", "noisetarcuhldpmgfbwy")
"""Letters that are exchanged for ones of like frequency."""


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_has_short_words_of_its_language(name: str) -> None:
    assert tells_language(TEXTS[name].split()) is True
    assert not tells_language(TEXTS[name].translate(EXCHANGED).split())


def test_a_list_of_names_does_not_tell_its_language() -> None:
    names = "Omeprazole Amiodarone Metformin Lisinopril Warfarin Digoxin Zolpidem"
    assert tells_language(names.split()) is None
    assert tells_language(TEXTS["en"].translate(EXCHANGED).split()) is False


@pytest.mark.parametrize(
    ("first", "second", "has_hyphen"),
    [
        ("48", "hour", True),
        ("well", "known", True),
        ("In", "network", True),
        ("anticoag", "ulants", False),
        ("be", "fore", False),
        ("re", "fill", False),
        ("Kranken", "haus", False),
    ],
)
def test_two_words_that_make_none_together_are_a_compound(first: str, second: str, has_hyphen: bool) -> None:
    assert is_compound(first, second) is has_hyphen
