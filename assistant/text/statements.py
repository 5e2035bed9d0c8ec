"""Parses a sentence for comparison: clauses, words by concept, quantities, negations and actors.

It reads English by closed word lists (auxiliaries, determiners, openers of conditions) and synonyms.
The orchestrator has no language model, and a parser would cost more than the answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from assistant.text.language import Language, Quantities, fold, quantities, word_file

_LEAST_WEIGHT = 0.25
"""Weight of the most common content word; the rarest weighs 1.25."""
_LONGEST_LABEL = 4
"""Words of a first sentence that serves as a heading."""
STOP_WEIGHT = 0.15
"""Weight of a verb that is a stop word: "ask", "give"."""


_WORD_CLASSES = [line.partition(": ") for line in word_file("en_grammar")]


def _word_class(wanted: str) -> frozenset[str]:
    return frozenset(word for name, _, words in _WORD_CLASSES if name == wanted for word in words.split())


_LETTER = re.compile(r"(?:(?<=[a-z] )|\A)[A-Z]\b")
_MARKER = re.compile(r"\A\s*(?:[-*\u2022]|\d{1,3}[.)])\s+")
_POSSESSIVE = re.compile(r"('s)\Z")
_EXTENSION = re.compile(r"\bext\.")
_PHRASES: Mapping[str, str] = {
    r"not (?:ever|under any circumstances)|under no circumstances|on no account|in no case": "never",
    r"not even (?:if|when)|even (?:if|when|though)|even(?= (?:from|without|with|for|at|in|on)\b)"
    r"|whether or not|regardless(?: of)?(?: whether)?|no matter(?: (?:what|whether|how))?|whatever": "evenif",
    r"not only": "",
    r"once(?= (?:per|an?|each|every|in|daily|weekly)\b)|(?:only )?one time": "onetime",
    r"only (?:if|when|after|once)": "onlyif",
    r"as long as|so long as|provided(?: that)?|on condition that|in case|in the event that|whenever": "if",
    r"except (?:if|when|where)": "unless",
    r"no later than|not later than": "within",
    r"up to|at (?:the )?most|(?:no|not) more than|(?:a )?maximum of|not exceeding": "upto",
    r"at least|no (?:less|fewer) than|not less than|(?:a )?minimum of": "atleast",
    r"(?:or|and) (?:more|older|over|above|higher|longer)": "ormore",
    r"(?:or|and) (?:less|fewer|under|below|younger|lower|shorter)": "orless",
    r"(?:more|greater|longer|older|higher) than|(?:over|above|exceeding)(?= \$?\d)": "morethan",
    r"(?:less|fewer|shorter|younger|lower) than|(?:under|below)(?= \$?\d)": "lessthan",
    r"prior to|ahead of|in advance of|earlier than": "before",
    r"minus(?! ?\$?\d)": "without",
    r"less(?= \$?\d)": "minus",
    r"(?:fail(?:s|ed)?|refuse[sd]?) to|sa(?:y|ys|id) no to": "not",
    r"instead of|rather than": ", not",
    r"such as|for (?:example|instance)": "",
    r"the two|these two": "both",
    r"just|solely|exclusively|nothing but|no one but|nobody but": "only",
}
"""Phrases that decide a meaning, and the one word that replaces them."""
_PHRASE = re.compile(r"\b(?:" + "|".join(f"({pattern})" for pattern in _PHRASES) + r")\b")
_PHRASE_WORDS = tuple(_PHRASES.values())
_PIECE = re.compile(
    r"\d[\d,]*(?:\.\d+)?(?![^\W\d_])|[^\W_]+(?:'[^\W\d_]+)*|[.!?]+(?=\s|\Z)|[,;:()\u2013\u2014\n]|\s-\s"
)
_BORDER = re.compile(r"\W+")
_SENTENCE_BORDERS = frozenset(".!?\n")
_NEGATIONS = _word_class("negations")
_CONDITIONS: Mapping[str, str] = {
    "if": "if", "when": "if", "unless": "if", "except": "if", "onlyif": "only if", "evenif": "even if",
    "until": "until", "before": "before", "after": "after", "once": "after",
}  # fmt: skip
SAME_CONDITION: Mapping[str, frozenset[str]] = {
    "if": frozenset({"if", "only if", "after"}),
    "only if": frozenset({"only if"}),
    "even if": frozenset({"even if"}),
    "until": frozenset({"until"}),
    "before": frozenset({"before"}),
    "after": frozenset({"after", "if", "only if"}),
}
_UNDER_CONDITION = frozenset({"that", "who", "which", "whose"})
"""They open a clause that is under the condition of the one before."""
_CLAUSES = frozenset({"but", "although", "though", "because", "since", "while", "whereas", "so"})
_OPENERS = frozenset(_CONDITIONS) | _UNDER_CONDITION | _CLAUSES | {"without"}
_LONGEST_ITEM = 4
"""Words of one item of an enumeration."""
_PRONOUNS = _word_class("pronouns")
_UPPER = frozenset({"upto", "within", "lessthan"})
_LOWER = frozenset({"atleast", "morethan"})
_DETERMINERS = _word_class("determiners")
_ARTICLES = _word_class("articles")
_AUXILIARIES = _word_class("auxiliaries")
_BEING = _word_class("being")
_FILLERS = _word_class("fillers")
_GRAMMAR = frozenset[str]().union(
    _DETERMINERS, _AUXILIARIES, _NEGATIONS, _UPPER, _LOWER, _CLAUSES, _UNDER_CONDITION, _PRONOUNS,
    _CONDITIONS, _FILLERS,
)  # fmt: skip
"""Words without content of their own, or that are read separately."""
_MODALS = _word_class("modals")
_ACTORS = _word_class("actors")
ANYONE = frozenset({"patient", "caller", "we", "agent"})
"""Actors that an instruction need not name."""


@dataclass(frozen=True, slots=True)
class Clause:
    """The text between two borders: the concepts of its words, and how they are meant."""

    words: frozenset[str]
    content: frozenset[str]
    """Concepts of the words that are no stop words."""
    numbers: frozenset[str]
    negated: bool
    kind: str
    """The condition that it states ("if", "only if", "even if", "until", "before", "after"), or nothing."""
    sentence: int

    def share_in(self, words: Collection[str]) -> float:
        """Return the share of its words that are in ``words``."""
        return sum(word in words for word in self.words) / len(self.words) if self.words else 0.0


@dataclass(frozen=True, slots=True)
class _SentenceWords:
    words: frozenset[str]
    """And numbers."""
    refers_back: bool
    """Whether it begins with a pronoun."""


@dataclass(frozen=True)
class Statement:
    """A parsed text."""

    clauses: tuple[Clause, ...]
    words: frozenset[str]
    """Concepts of all words with content."""
    weights: Mapping[str, float]
    """How specific each content word is, by concept."""
    nouns: frozenset[str]
    """Concepts of the words in the position of a noun."""
    quantities: Quantities
    limits: Mapping[str, str]
    """"most" or "least" by number."""
    segments: tuple[tuple[frozenset[str], frozenset[str]], ...]
    """(numbers, concepts) of each clause or part of an enumeration."""
    actors: tuple[str, ...]
    acts: frozenset[tuple[str, str]]
    """(actor, verb) of the actors before a verb."""
    sentences: tuple[_SentenceWords, ...]
    limits_to: bool
    """Whether it has "only"."""
    letters: frozenset[str]
    """Single capital letters that name something: "group B"."""

    @cached_property
    def label(self) -> frozenset[str]:
        """The words of a first sentence that serves as a heading: "Lost laptop. Phone at once."."""
        first = [clause for clause in self.clauses if clause.sentence == 0]
        words = frozenset[str]().union(*(clause.words | clause.numbers for clause in first))
        states = any(clause.negated or clause.kind for clause in first)
        short = len(words) <= _LONGEST_LABEL and len(self.sentences) > 1
        return words if short and not states else frozenset()

    @cached_property
    def below_label(self) -> tuple[Clause, ...]:
        """The clauses after the label."""
        return tuple(clause for clause in self.clauses if clause.sentence or not self.label)

    @cached_property
    def total(self) -> float:
        return sum(self.weights.values())

    @cached_property
    def negates(self) -> bool:
        return any(clause.negated for clause in self.clauses)

    @cached_property
    def conditions(self) -> tuple[Clause, ...]:
        return tuple(clause for clause in self.clauses if clause.kind)

    def words_of(self, sentence: int, *, but: Clause) -> frozenset[str]:
        """Return the words of one sentence without those of the clause ``but``."""
        found = (c.words for c in self.clauses if c.sentence == sentence and c is not but)
        return frozenset[str]().union(*found)


def read_statement(text: str, language: Language, *, row: bool = False) -> Statement:
    """Parse a text. In a table row a colon joins a header and its cell; elsewhere it ends a clause."""
    synonyms = synonyms_of(language)
    plain = _EXTENSION.sub("ext", fold(_MARKER.sub("", text)))
    plain = _PHRASE.sub(lambda found: _PHRASE_WORDS[(found.lastindex or 1) - 1], plain)
    plain = synonyms.phrase.sub(lambda found: synonyms.of_phrase[found[0]], plain)
    pieces = [part for piece in _PIECE.findall(plain) for part in _POSSESSIVE.split(piece) if part]
    content = frozenset(word for word in language.content_words(plain) if not _is_number(word))
    concepts = {
        piece: synonyms.concept(piece) for piece in pieces if piece not in _GRAMMAR and _is_word(piece)
    }
    clauses = tuple(_clauses(pieces, concepts, content, language, row=row))
    return Statement(
        clauses=clauses,
        words=frozenset(concepts.values()),
        weights={
            concept: _LEAST_WEIGHT + language.rarity(word) if word in content else STOP_WEIGHT
            for word, concept in concepts.items()
        },
        nouns=_nouns(pieces, {word: concepts[word] for word in concepts if word in content}),
        quantities=quantities(plain),
        limits=_limits(pieces),
        segments=tuple(_segments(pieces, concepts)),
        actors=tuple(dict.fromkeys(_actor(pieces, n) for n, piece in enumerate(pieces) if _is_actor(piece))),
        acts=frozenset(_acts(pieces, synonyms, row=row)),
        sentences=tuple(_sentences(clauses, pieces, row=row)),
        limits_to="only" in pieces or "onlyif" in pieces,
        letters=frozenset(_LETTER.findall(text)),
    )


def _clauses(
    pieces: Sequence[str],
    concepts: Mapping[str, str],
    content: Collection[str],
    language: Language,
    *,
    row: bool,
) -> Iterator[Clause]:
    words: dict[str, str] = {}
    numbers: set[str] = set()
    negated, kind, sentence, relative = False, "", 0, False
    for n, piece in enumerate([*pieces, "."]):
        border = piece[0] in _SENTENCE_BORDERS
        ends_relative = relative and words and (piece in _MODALS or piece in {"do", "does", "is", "are"})
        if ends_relative or _ends_clause(pieces, n, row=row, condition=bool(kind)):
            relative = piece in _UNDER_CONDITION
            if words or negated or kind or numbers:
                told = frozenset(concept for word, concept in words.items() if word in content)
                yield Clause(frozenset(words.values()), told, frozenset(numbers), negated, kind, sentence)
            words, numbers = {}, set()
            negated = piece in {"unless", "except", "without"}
            kind = _CONDITIONS.get(piece, kind if piece in _UNDER_CONDITION else "")
            sentence += border or (row and piece == ";")
        elif piece in _NEGATIONS:
            negated = not negated
        elif piece in concepts:
            words[piece] = concepts[piece]
            negated ^= _unword(piece, language) is not None
        else:
            numbers.update(_values(piece) - {"1"})


def _ends_clause(pieces: Sequence[str], n: int, *, row: bool, condition: bool) -> bool:
    """Return whether a clause ends before a piece. The comma of an enumeration ends none, and "and" only does
    before a verb."""
    piece = pieces[n] if n < len(pieces) else "."
    following = pieces[n + 1] if n + 1 < len(pieces) else "."
    if piece == "," and not condition:
        item = pieces[n + 1 : n + 2 + _LONGEST_ITEM]
        end = next(
            (at for at, word in enumerate(item) if _BORDER.fullmatch(word) or word in {"and", "or"}), None
        )
        return not end or any(word in _AUXILIARIES or word in _OPENERS for word in item[:end])
    if piece in {"and", "or"}:
        return following in _NEGATIONS or following in _AUXILIARIES
    if _BORDER.fullmatch(piece):
        return not (row and piece == ":")
    return piece in _OPENERS


def _sentences(clauses: Sequence[Clause], pieces: Sequence[str], *, row: bool) -> Iterator[_SentenceWords]:
    """Yield the words of each sentence; all cells of a row are one sentence."""
    if row:
        yield _SentenceWords(
            frozenset[str]().union(*(c.words | c.numbers for c in clauses)), refers_back=False
        )
        return
    openers: dict[int, str] = {}
    sentence = 0
    for piece in pieces:
        if piece[0] in _SENTENCE_BORDERS:
            sentence += 1
        else:
            openers.setdefault(sentence, piece)
    for number in dict.fromkeys(clause.sentence for clause in clauses):
        held = (c.words | c.numbers for c in clauses if c.sentence == number)
        yield _SentenceWords(frozenset[str]().union(*held), refers_back=openers.get(number) in _PRONOUNS)


def _nouns(pieces: Sequence[str], concepts: Mapping[str, str]) -> frozenset[str]:
    """Return the concepts after a determiner or preposition, with their qualifiers."""
    found: set[str] = set()
    inside = True
    for piece, following in pairwise([*pieces, "."]):
        if piece in concepts and inside and (following in _ARTICLES or _is_number(following)):
            inside = False
        elif piece in concepts and not _is_actor(piece):
            if inside and not piece.endswith(("ly", "ing", "ed")):
                found.add(concepts[piece])
        else:
            inside = piece in _DETERMINERS or (inside and piece in {"and", "or", ","}) or _is_number(piece)
    return frozenset(found)


def _limits(pieces: Sequence[str]) -> dict[str, str]:
    """Return "most" or "least" for each number beside a limiting word."""
    found: dict[str, str] = {}
    for n, piece in enumerate(pieces):
        if piece in _UPPER or piece in _LOWER:
            near, limit = pieces[n + 1 : n + 4], "most" if piece in _UPPER else "least"
        elif piece in {"ormore", "orless"}:
            near, limit = pieces[max(0, n - 4) : n][::-1], "least" if piece == "ormore" else "most"
        else:
            continue
        value = next((value for word in near for value in _values(word)), None)
        if value is not None:
            found[value] = limit
    return found


def _segments(
    pieces: Sequence[str], concepts: Mapping[str, str]
) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    numbers: set[str] = set()
    words: set[str] = set()
    for piece in [*pieces, "."]:
        if _BORDER.fullmatch(piece) or piece in {"and", "or", "other", "others"} or piece in _CLAUSES:
            if numbers or words:
                yield frozenset(numbers), frozenset(words)
            numbers, words = set(), set()
        elif piece in concepts:
            words.add(concepts[piece])
        else:
            numbers.update(_values(piece))


def _is_actor(piece: str) -> bool:
    return piece in _ACTORS or piece.removesuffix("s") in _ACTORS


def _actor(pieces: Sequence[str], n: int) -> str:
    """Return the name of an actor: "claims desk" for a desk, because there are several."""
    word = pieces[n]
    single = word if word in _ACTORS else word.removesuffix("s")
    single = _SAME_ACTORS.get(single, single)
    before = pieces[n - 1] if n else ""
    if single in _NAMED and before.isalpha() and before not in _DETERMINERS and before not in _AUXILIARIES:
        return f"{before} {single}"
    return single


_NAMED = frozenset({"desk", "team", "office", "lead", "line", "pharmacy"})
_SAME_ACTORS: Mapping[str, str] = {
    actor: names.split()[0]
    for name, _, names in _WORD_CLASSES
    if name == "same actor"
    for actor in names.split()
}


def same_actor(first: str, second: str) -> bool:
    """Return whether two names mean one actor: "the desk" may be any named desk."""
    return first == second or second.endswith(f" {first}") or first.endswith(f" {second}")


def _acts(pieces: Sequence[str], synonyms: Synonyms, *, row: bool) -> Iterator[tuple[str, str]]:
    """Yield each actor with the verb after it; the agent for a verb that opens a sentence."""
    actor: str | None = None
    direct, passive, start = False, False, not row
    for n, piece in enumerate(pieces):
        if _BORDER.fullmatch(piece) or piece in _CONDITIONS or piece in _CLAUSES:
            if piece not in {"(", ")"}:
                actor, start = None, not row and not piece[0].isalpha()
        elif piece == "'s":
            actor, direct = None, False
        elif _is_actor(piece):
            if actor is None:
                actor = _actor(pieces, n)
            direct, passive, start = True, False, False
        elif piece in _AUXILIARIES or piece == "ext" or piece.isdigit():
            direct |= piece in _MODALS
            passive = piece in _BEING or (passive and piece not in _MODALS)
        else:
            verb = piece.isalpha() and piece not in _GRAMMAR
            if verb and direct and actor is not None and not passive:
                yield actor, synonyms.concept(piece)
            elif verb and start:
                yield "agent", synonyms.concept(piece)
            direct = passive = start = False


class Synonyms:
    """The groups of ``en_synonyms.txt``. A concept is the stem of the first word of a group."""

    def __init__(self, lines: Iterable[str], language: Language) -> None:
        self.of_phrase: dict[str, str] = {}
        self.of_stem: dict[str, str] = {}
        self._language = language
        for line in lines:
            names = [name.strip() for name in line.split(",")]
            for name in names:
                if " " in name:
                    self.of_phrase.setdefault(name, names[0])
                else:
                    self.of_stem.setdefault(language.stem(name), language.stem(names[0]))
        phrases = sorted(self.of_phrase, key=len, reverse=True)
        self.phrase = re.compile(r"\b(?:" + "|".join(map(re.escape, phrases)) + r")\b")

    def concept(self, word: str) -> str:
        """Return the concept of a word; of an "un-" word that of the word that it denies."""
        stem = self._language.stem(_unword(word, self._language) or word)
        return self.of_stem.get(stem, stem)


@lru_cache
def synonyms_of(language: Language) -> Synonyms:
    return Synonyms(word_file("en_synonyms"), language)


@lru_cache(maxsize=20_000)
def _unword(word: str, language: Language) -> str | None:
    """Return "treated" for "untreated"; None for a word that "un-" does not deny."""
    denied = word.removeprefix("non") if word.startswith("non") else word[2:]
    plain = word.startswith("non") or word.endswith(("ed", "able", "ible", "sure", "safe", "clear", "true"))
    known = len(denied) > 3 and (language.is_common(denied) or language.is_common(denied + "s"))
    return denied if word.startswith(("un", "non")) and plain and known else None


@lru_cache(maxsize=20_000)
def _values(piece: str) -> frozenset[str]:
    return quantities(piece).values


def _is_word(piece: str) -> bool:
    return piece[0].isalnum() and len(piece) > 1 and not _is_number(piece)


def _is_number(word: str) -> bool:
    return word[:1].isdigit() or bool(_values(word))
