"""Words and sentences of one language, and what is kept of texts."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.domain.errors import ConfigurationError
from assistant.text import marks
from assistant.text.caches import forget_texts, remember_texts, remembered
from assistant.text.language import (
    Language,
    SentenceSplitter,
    is_compound,
    language,
    split_sentences,
    tells_language,
)
from assistant.text.marks import Marks

ENGLISH = language("en")
ENDINGS = [f"{one}{ending}" for one in "abcdefgh" for ending in ("ing", "ations", "ed", "ness", "fully")]


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


def test_results_are_kept_until_all_are_forgotten() -> None:
    asked: list[str] = []

    @remember_texts(2)
    def length(text: str) -> int:
        asked.append(text)
        return len(text)

    assert (length("ab"), length("ab"), asked) == (2, 2, ["ab"])
    assert remembered() > 0
    forget_texts()
    assert (remembered(), length("ab"), asked) == (0, 2, ["ab", "ab"])


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


WRITTEN = (
    'Take| it|. |.|...|! |?|\n|  | Dr. |e.g. |0.5 mg|1. |- |"|)|Smith| ext. 4200|No. 5|p.m. |Eastern|ET|'
    "\u2026 |\u3002|9 a.m.|caf\u00e9|\u00e9|(see|**"
)
PIECES = st.lists(st.sampled_from(WRITTEN.split("|")), max_size=25).map("".join)
CITED = (
    "<document 1>|</document|<doc|>| 1|[1]|[1.2]|[12|[1.|]|[| |  |\t|         |\n|[1.1, 2]|Ask|. |? |."
    "|[1.1\u20132.2]|[1.2;|2|,|-|day 23|[PR-2]|[a]|dose [mg]|[1234]|[ 1.1 ]|p.m. |Eastern"
)
CITED_PIECES = st.lists(st.sampled_from(CITED.split("|")), max_size=25).map("".join)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Take it. Then wait.", ["Take it.", "Then wait."]),
        ("Take 0.5 mg daily. Wait.", ["Take 0.5 mg daily.", "Wait."]),
        ("Is it by R. Li, K. Roy or Dr. J. Lo? Ask.", ["Is it by R. Li, K. Roy or Dr. J. Lo?", "Ask."]),
        ("II, IV or V. Parts A and B. Plan C. Ask.", ["II, IV or V.", "Parts A and B.", "Plan C.", "Ask."]),
        ("Ask Dr. Smith at ext. 4200. Wait.", ["Ask Dr. Smith at ext. 4200.", "Wait."]),
        ("Take it. [1.2] Then wait.", ["Take it.", "[1.2] Then wait."]),
        ("Some drugs, e.g. Xanax, are refused. Ask.", ["Some drugs, e.g. Xanax, are refused.", "Ask."]),
        ("Call at 9 a.m. Then wait.", ["Call at 9 a.m.", "Then wait."]),
        ("Call until 10 p.m. Eastern. Wait.", ["Call until 10 p.m. Eastern.", "Wait."]),
        ("Is it due? Yes! Good.", ["Is it due?", "Yes!", "Good."]),
        ("Wait... then call. Wait\u2026 Call.", ["Wait... then call.", "Wait\u2026", "Call."]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("It is due (see step 2). Wait.", ["It is due (see step 2).", "Wait."]),
        ("Steps:\n1. Ask for the card.\n2. Wait.", ["Steps:", "1. Ask for the card.", "2. Wait."]),
        ("**Note.** Take it.", ["**Note.**", "Take it."]),
        (
            "\u670d\u7528\u4e00\u6b21\u3002\u7b49\u5f85\u3002",
            ["\u670d\u7528\u4e00\u6b21\u3002", "\u7b49\u5f85\u3002"],
        ),
        ("No end", ["No end"]),
        ("  \n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]) -> None:
    assert [span.text for span in split_sentences(text)] == sentences


@pytest.mark.parametrize(("cites", "pieces"), [(False, PIECES), (True, CITED_PIECES)])
@given(data=st.data())
def test_the_result_does_not_depend_on_the_cuts(
    cites: bool, pieces: st.SearchStrategy[str], data: st.DataObject
) -> None:
    text = data.draw(pieces)
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
    splitter, whole = SentenceSplitter(cites=cites), SentenceSplitter(cites=cites)
    parts = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
    found = [span for part in parts for span in splitter.push(part)]
    assert [*found, *splitter.flush()] == [*whole.push(text), *whole.flush()]


def test_a_citation_after_its_end_belongs_to_the_sentence() -> None:
    splitter = SentenceSplitter(cites=True)
    parts = ("Take it. [1.2][3] Then wait. [1", ".4] Go on")
    assert [[span.text for span in splitter.push(part)] for part in parts] == [
        ["Take it. [1.2][3]"],
        ["Then wait. [1.4]"],
    ]


@given(text=PIECES)
def test_no_letter_is_lost(text: str) -> None:
    kept = "".join(span.text for span in split_sentences(text))
    assert [c for c in kept if c.isalnum()] == [c for c in text if c.isalnum()]


@pytest.mark.parametrize("uncertain", ["Take it.", "Take it. ", "Take 0.", 'Take it."'])
def test_an_uncertain_end_waits(uncertain: str) -> None:
    assert list(SentenceSplitter().push(uncertain)) == []
