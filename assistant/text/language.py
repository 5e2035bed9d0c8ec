"""Words of one language: content terms by their stems, and how common a word is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from math import log
from typing import Protocol, cast

from snowballstemmer import stemmer  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from assistant.domain.errors import ConfigurationError

_WORD = re.compile(r"[^\W_]+(?:'[^\W\d_]+)*")
_APOSTROPHES = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{MODIFIER LETTER APOSTROPHE}": "'"})
_NEGATED = re.compile(r"\b(?:not|non|isn't|aren't)[\s-]+([a-z]+)|\bnon([a-z]{4,})")
_CACHED_STEMS = 50_000
_COMMON_RANK = 1_500
"""Up to about this rank a word says next to nothing about what a question is about."""

# Closed word classes, and what people say when they ask for something. Negations stand here too: they
# say nothing about the subject; attribution looks at them on their own.
_ENGLISH_STOP_WORDS = """
a about above after again against all almost along already also although always am among an and another
any anybody anyone anything anyway are around as ask asked asking asks at away back be became because
become been before began being below between both bring but by call called caller calling came can can't
cannot could couldn't customer did didn't do does doesn't doing don't done down during each either else
enough even ever every everyone everything few find for found from further gave get gets getting give
given gives go goes going gone got had hadn't has hasn't have haven't having he he'd he'll he's her here
hers herself hi him himself his how however i i'd i'll i'm i've if in into is isn't it it'll it's its
itself just keep kept know last least let like look made make makes many may maybe me might mine more
most much must my myself need needs never new next no nor not nothing now of off often ok okay on once
one only onto or other others our ours out over own patient people please pt put quite rather really
right said same saw say says see seen shall she she'd she'll she's should shouldn't since so some
somebody someone something soon still such take taken tell than thank thanks that that's the their theirs
them themselves then there there's these they they'd they'll they're they've thing things think this
those though through till to told too took toward try trying two under until up upon us use used using
very want wants was wasn't way we we'd we'll we're we've well went were weren't what what's when where
whether which while who whom who's whose why will with within without won't would wouldn't yes yet you
you'd you'll you're you've your yours
"""


class Stemmer(Protocol):
    """snowballstemmer's, which ships no types."""

    def stemWord(self, word: str) -> str: ...


class Language:
    """Tokens, stems and word rarity of one language. Use ``language(code)``, which keeps one of each."""

    def __init__(self, *, algorithm: str, stop_words: frozenset[str], ranks: Mapping[str, int]) -> None:
        self._stop_words = stop_words
        self._ranks = ranks
        stem = cast("Stemmer", stemmer(algorithm)).stemWord
        # The stemmer takes some 20 µs a word and questions repeat words: the cache makes it 0.1 µs.
        self.stem: Callable[[str], str] = lru_cache(maxsize=_CACHED_STEMS)(stem)

    def content_words(self, text: str) -> Iterator[str]:
        """Return the words of a text that carry content, folded, not stemmed, in order."""
        return self._content(_WORD.findall(fold(text)))

    def content_stems(self, text: str) -> frozenset[str]:
        """Return the set of stems of a text's content words."""
        return frozenset(map(self.stem, self._content(frozenset(_WORD.findall(fold(text))))))

    def _content(self, words: Iterable[str]) -> Iterator[str]:
        for word in words:
            if word in self._stop_words:
                continue
            bare = word.removesuffix("'s")
            if bare not in self._stop_words and (len(bare) > 1 or bare.isdigit()):
                yield bare

    def polar_stems(self, text: str) -> frozenset[str]:
        """Return a text's content stems, each that a "not" or "non-" stands before marked with "not "."""
        negated = frozenset(
            self.stem(word)
            for groups in _NEGATED.findall(fold(text))
            for word in self.content_words(" ".join(groups))
        )
        stems = self.content_stems(_NEGATED.sub(" ", fold(text)))
        return stems | {f"not {stem}" for stem in negated}

    def is_common(self, word: str) -> bool:
        """Say whether a folded word is among the some twelve thousand commonest, stop words included."""
        return word in self._ranks or word in self._stop_words

    def rarity(self, word: str) -> float:
        """Return how much a word says, from 0.0 (a commonplace) to 1.0 (not among the common words)."""
        rank = self._ranks.get(word)
        if rank is None:
            return 1.0
        return (log(1 + rank / _COMMON_RANK) / log(1 + 20_000 / _COMMON_RANK)) ** 2


def fold(text: str) -> str:
    """Return the text with compatibility characters, case and apostrophes made one."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    return text.casefold()


@lru_cache
def language(code: str) -> Language:
    """Return the language of an ISO 639-1 code. Raises ConfigurationError when its words are not here."""
    if code != "en":
        raise ConfigurationError(f'language = "{code}": stop words and word ranks exist for "en" only.')
    words = files("assistant.text").joinpath("words", "en.txt").read_text(encoding="utf-8").split()
    return Language(
        algorithm="english",
        stop_words=frozenset(_ENGLISH_STOP_WORDS.split()),
        ranks={word: rank for rank, word in enumerate(words)},
    )
