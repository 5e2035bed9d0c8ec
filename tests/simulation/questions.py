"""Questions of simulated agents and of the test, made of a tenant's documents by rules of lay wording.

A *family* is all that is made of one template for one document, or of one sentence of it. The agents'
families and the test's are disjoint: they share no template, no wrapper and no sentence.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from assistant.domain.documents import StoredDocument

Side = Literal["agents", "test"]
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]+|\d+")
_FEWEST_WORDS, _MOST_WORDS = 9, 45
"""Of a sentence that a question is made of."""
_KEYWORDS = (4, 6)
_ALIKE = 0.6
"""Share of words that makes a test question too close to one of the agents' about the same document."""


@dataclass(frozen=True, slots=True)
class SimulatedQuestion:
    question_id: str
    text: str
    document_id: str
    """The document that it was made of."""
    family: str
    right: frozenset[str]
    """Documents that answer it: the one above, and any other that says the same."""
    side: Side


_ASKED_OF = {  # a title's form → what is asked of its subject; first match counts
    r"^What is \(are\) (?P<of>.+?) \?$": "information",
    r"^What are the symptoms of (?P<of>.+?) \?$": "symptoms",
    r"^What causes (?P<of>.+?) \?$": "causes",
    r"^What are the treatments for (?P<of>.+?) \?$": "treatment",
    r"^How to diagnose (?P<of>.+?) \?$": "diagnosis",
    r"^How to prevent (?P<of>.+?) \?$": "prevention",
    r"^What is the outlook for (?P<of>.+?) \?$": "outlook",
    r"^Is (?P<of>.+?) inherited \?$": "inheritance",
    r"^What to do for (?P<of>.+?) \?$": "living",
    r"^Who is at risk for (?P<of>.+?)\? \?$": "risk",
}
_TEMPLATES: Mapping[Side, Mapping[str, Sequence[str]]] = {
    "agents": {
        "information": ("pt just got told he has {of}, what is that", "Explain {of} in simple words please"),
        "symptoms": ("how would someone notice they have {of}", "warning signs, {of}?"),
        "causes": ("why do people get {of}", "caller wonders where her {of} comes from"),
        "treatment": ("what do doctors do against {of}", "medicine or surgery for {of}?"),
        "diagnosis": ("which tests show that it is {of}", "how does the doctor find out about {of}"),
        "prevention": ("how to avoid getting {of}", "Can anything be done so {of} doesn't happen?"),
        "outlook": ("how bad is {of} in the long run", "chances with {of}?"),
        "inheritance": ("does {of} run in families", "dad has {of}, will the kids get it"),
        "living": ("what can she do at home about {of}", "diet and daily life with {of}"),
        "risk": ("who gets {of} most often", "is my husband likely to catch {of}"),
    },
    "test": {
        "information": ("somebody asked me about {of}, give me the basics", "{of} - meaning?"),
        "symptoms": (
            "mother thinks her son might have {of}, what should she look out for",
            "what does {of} feel like",
        ),
        "causes": ("what brings on {of}", "reason behind {of}?"),
        "treatment": ("she has {of}, how do we get rid of it", "options to treat {of} nowadays"),
        "diagnosis": ("checkups or scans for suspected {of}", "is there a blood test or exam for {of}"),
        "prevention": ("keeping {of} away, any advice for the caller", "protect yourself from {of}"),
        "outlook": ("will he recover from {of}", "survival / prognosis {of}"),
        "inheritance": ("is {of} genetic", "grandma had {of}, should the family worry about passing it on"),
        "living": ("tips for someone who lives with {of}", "what should I eat when I have {of}"),
        "risk": ("what makes {of} more likely for a person", "am I in danger of {of}"),
    },
}  # fmt: skip
_WRAPPERS: Mapping[Side, Sequence[str]] = {
    "agents": ("caller asks about {words}", "{words}?", "{of}: {words}", "pt with {of}, question on {words}"),
    "test": ("what do we say on {words}", "hi, need info: {words}", "about {of} - {words}", "{words} ({of})"),
}
_SAID = {  # what callers say for it
    "hypertension": "high bp",
    "high blood pressure": "high bp",
    "high blood cholesterol": "high cholesterol",
    "gastroesophageal reflux": "acid reflux",
    "gerd": "acid reflux",
    "deep vein thrombosis": "a clot in the leg",
    "pulmonary embolism": "a clot in the lung",
    "myocardial infarction": "a heart attack",
    "type 1": "type one",
    "type 2": "type two",
    "urinary tract infection": "UTI",
    "osteoarthritis": "worn joints",
    "infectious mononucleosis": "mono",
    "viral gastroenteritis": "stomach flu",
    "athlete's foot": "foot fungus",
    "transient ischemic attack": "mini stroke",
    "atrial fibrillation": "a-fib",
    "streptococcal infections": "strep",
    "pertussis": "whooping cough",
    "syncope": "fainting",
    "hypoglycemia": "low sugar",
    "hypotension": "low bp",
    "polycystic ovary syndrome": "pcos",
    "irritable bowel syndrome": "ibs",
    "prior authorization": "PA",
    "medication": "meds",
    "prescription": "script",
    "controlled substance": "controlled",
}
_STOP = frozenset(
    """the a an and or of to in is are was were be been being for on at by with without from as it its this
    that these those which who whom whose what when where why how can may might could should would will shall
    do does did done has have had not no nor if then than so such also into over under about between both each
    any some more most other only very you your they their them he she his her we our us i my me one two there
    here often usually called many much because but while during after before within up out all
    """.split()  # noqa: SIM905 - easier to read
)


def subject_of(title: str) -> tuple[str | None, str]:
    """Return what a title asks, None where it is no question of a known form, and the subject."""
    for form, asked in _ASKED_OF.items():
        if found := re.match(form, title):
            return asked, found["of"]
    return None, title


def plain_subject(subject: str) -> str:
    """Return a subject without brackets, explanations and forewords, folded: two of them name one thing."""
    bare = re.sub(r"\(.*?\)", "", subject.lower())
    bare = re.sub(r"^(what i need to know about|your guide to|parasites - (lice - )?)\s*", "", bare)
    bare = re.sub(r"\s*(:.*| in adults| and how its treated)$", "", bare)
    return " ".join(bare.replace("'s ", " ").split())


class Questions:
    """Makes questions about documents; the same seed gives the same questions."""

    def __init__(self, documents: Iterable[StoredDocument], *, seed: int) -> None:
        self._documents = sorted(documents, key=lambda one: one.card.document_id)
        self._seed = seed
        words = [frozenset(_folded(" ".join(_sentences(document)))) for document in self._documents]
        self._frequency = Counter(word for one in words for word in one)
        self._saying: dict[str, set[str]] = {}
        self._alias: dict[tuple[str | None, str], set[str]] = {}
        for document in self._documents:
            name, (asked, subject) = document.card.document_id, subject_of(document.card.title)
            self._alias.setdefault((asked, plain_subject(subject)), set()).add(name)
            for sentence in _sentences(document):
                self._saying.setdefault(sentence.lower(), set()).add(name)

    def asked_about(self, share: float) -> frozenset[str]:
        """Return the documents that agents ask about: whole subjects, drawn by seed."""
        subjects = sorted({plain_subject(subject_of(one.card.title)[1]) for one in self._documents})
        drawn = random.Random(f"{self._seed}:asked").sample(subjects, round(share * len(subjects)))
        chosen = frozenset(drawn)
        return frozenset(
            one.card.document_id
            for one in self._documents
            if plain_subject(subject_of(one.card.title)[1]) in chosen
        )

    def of_agents(self, about: frozenset[str], *, each: int) -> list[SimulatedQuestion]:
        """Return up to ``each`` questions of each document that agents ask about, shuffled."""
        made = [
            one for document in self._documents if document.card.document_id in about
            for one in self._made(document, "agents", each)
        ]  # fmt: skip
        random.Random(f"{self._seed}:agents").shuffle(made)
        return made

    def of_test(self, *, each: int, apart_from: Iterable[SimulatedQuestion]) -> list[SimulatedQuestion]:
        """Return up to ``each`` questions of every document, none close in words to one of the agents'."""
        known: dict[str, list[frozenset[str]]] = {}
        for one in apart_from:
            known.setdefault(one.document_id, []).append(frozenset(_folded(one.text)))
        return [
            one
            for document in self._documents
            for one in self._made(document, "test", each)
            if all(
                _jaccard(frozenset(_folded(one.text)), other) < _ALIKE
                for other in known.get(one.document_id, ())
            )
        ]

    def _made(self, document: StoredDocument, side: Side, each: int) -> Iterator[SimulatedQuestion]:
        name = document.card.document_id
        drawn = random.Random(f"{self._seed}:{side}:{name}")
        asked, subject = subject_of(document.card.title)
        made = [
            *self._by_template(name, asked, subject, side, drawn),
            *self._by_sentence(document, side, drawn),
        ]
        by_kind = made[:1] + drawn.sample(made[1:], min(len(made) - 1, each - 1)) if made else []
        for number, (text, family, right) in enumerate(by_kind):
            yield SimulatedQuestion(f"{side}:{name}:{number}", text, name, family, frozenset(right), side)

    def _by_template(
        self, name: str, asked: str | None, subject: str, side: Side, drawn: random.Random
    ) -> Iterator[tuple[str, str, set[str]]]:
        templates = list(_TEMPLATES[side].get(asked or "", ()))
        drawn.shuffle(templates)
        for template in templates[:1]:
            right = self._alias[asked, plain_subject(subject)]
            yield template.format(of=said(subject, drawn)), f"{name}|{template}", right

    def _by_sentence(
        self, document: StoredDocument, side: Side, drawn: random.Random
    ) -> Iterator[tuple[str, str, set[str]]]:
        name, subject = document.card.document_id, subject_of(document.card.title)[1]
        sentences = _sentences(document)
        random.Random(f"{self._seed}:{name}").shuffle(sentences)
        for sentence in sentences[0 if side == "agents" else 1 :: 2]:
            words = self._keywords(sentence, drawn)
            if len(words) >= _KEYWORDS[0]:
                wrapper = drawn.choice(_WRAPPERS[side])
                text = wrapper.format(words=" ".join(words), of=said(subject, drawn))
                yield text, f"{name}|{sentence[:40]}", self._saying[sentence.lower()]

    def _keywords(self, sentence: str, drawn: random.Random) -> list[str]:
        """Return the rarest words of a sentence in its order, without those of one document only."""
        words = list(dict.fromkeys(word for word in _folded(sentence) if word not in _STOP and len(word) > 2))
        shared = [word for word in words if self._frequency[word] > 1]
        rarest = sorted(shared, key=lambda word: (self._frequency[word], word))[: drawn.randint(*_KEYWORDS)]
        return [_mistyped(word, drawn) for word in words if word in rarest]


def said(subject: str, drawn: random.Random) -> str:
    """Return a subject as a caller says it: shorter, by a lay word, in lower case, sometimes mistyped."""
    bare = plain_subject(subject)
    for word, lay in _SAID.items():
        if word in bare and drawn.random() < 0.7:
            bare = bare.replace(word, lay)
    words = bare.split()
    if len(words) > 3 and drawn.random() < 0.5:
        words = [word for word in words if word not in _STOP][:3]
    return " ".join(_mistyped(word, drawn) for word in words)


def _mistyped(word: str, drawn: random.Random) -> str:
    if len(word) < 6 or drawn.random() > 0.06:
        return word
    at = drawn.randrange(1, len(word) - 2)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _sentences(document: StoredDocument) -> list[str]:
    units = [" ".join(unit.text.split()) for passage in document.passages for unit in passage.units]
    return [text for text in dict.fromkeys(units) if _FEWEST_WORDS <= len(text.split()) <= _MOST_WORDS]


def _folded(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0
