"""Closed lists of the words that questions about items are read by: bounds, directions, negation, opinions.

Words with a spelling error are read as the listed word nearest to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from assistant.answering.item_directory import HERE
from assistant.text.language import word_file, word_groups
from assistant.text.measures import CURRENCY_NAMES, NUMBER_WORDS

Direction = Literal["low", "high"]
Stance = Literal["wanted", "unwanted", "open"]
"""Open: the asker does not mind."""

PIECE = re.compile(r"[^\W_]+")
TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


# --- bounds -----------------------------------------------------------------------------------------------
UPPER = re.compile(
    r"(?P<said>\b(?:under|below|less than|fewer than|at (?:the )?most|up to|max(?:imum)?(?: of)?|within|"
    r"(?:cheap|light|quiet|short|small|low|few|fast|quick|thin|narrow|slow|cold)i?er than|down to|"
    r"budget(?: of| is)?)|<=?|≤)\W{0,3}$"
)
LOWER = re.compile(
    r"(?P<said>\b(?:over|above|more than|at least|min(?:imum)?(?: of)?|exceed(?:s|ing)?|beyond|"
    r"(?:long|heavi|bigg|larg|long|great|high|wid|thick|loud|strong|slow|dear)i?er than)|>=?|≥)\W{0,3}$"
)
AFTER_UPPER = re.compile(
    r"\W{0,2}(?:or|and) (?:less|under|below|lighter|cheaper|quieter|smaller|lower|colder)|\W{0,2}max\b"
)
AFTER_LOWER = re.compile(
    r"\W{0,2}(?:or|and) (?:more|over|above|up|longer|larger|bigger|higher)|\+|\W{0,2}min\b"
)
AT_LEAST = re.compile(r"\b(?:at least|min(?:imum)?(?: of)?)\W{0,3}$")
ABOUT = re.compile(r"(?:about|around|roughly|approximately|circa)\W{0,3}$")
LOADS = re.compile(
    r"\b(?:carr(?:y|ies)|holds?|takes?|supports?|bears?|manages?|can weigh|to weigh)(?: up to)?\W{0,3}$"
)
BOUNDS = re.compile(
    r"\bat (?:the )?(?:least|most)\b|\b(?:more|less|fewer) than\b"
    rf"(?=\W{{0,3}}(?:\d|(?:minus|{'|'.join(NUMBER_WORDS)})\b))"
)
STRICT = re.compile(r"\b(?:(?:more|less|fewer) than|over|above|under|below|beyond|exceed(?:s|ing)?)\W{0,3}$")
"""Of counts: "more than 3 persons" are at least 4."""
PERSONS = frozenset(
    "person people adult man men pax sleeper hiker camper traveller traveler child children kid p".split()  # noqa: SIM905
)
"""Singulars and plurals of what a property such as "Persons" counts."""
FOR_PERSONS = re.compile(r"\b(?P<what>[^\W_]{1,30})\s(?:just\s|only\s)?for\W{0,2}$")
SLEEPS = re.compile(r"\b(?:sleeps?|seats?|(?:room|space|big enough|large enough) for)\W{0,2}$")
WEIGHS = re.compile(r"\b(?:weigh\w*|carr(?:y|ies)|holds?|loads?|light\w*|heav\w+)\b")
BEARS_AMOUNT = re.compile(
    r"\W?(?:rooms?|bedrooms?|flats?|apartments?|spaces?|areas?|house|arms?|wrists?|child|children|kids?|baby|"
    r"babies|toddlers?|persons?|patients?|users?)\b"
)
"""After an amount: "a 40 m² room" says no more than "40 m²"."""
OCCASION = re.compile(r"\b(?:for|at|in|on|during|when|while)\s(?:(?:an?|the|my|his|her|our|their)\s)?$")
LASTS = re.compile(r"\b(?:lasts?|battery|charges?|holidays?|trips?)\b")


# --- kinds of questions -----------------------------------------------------------------------------------
COMPARES = re.compile(
    r"\b(?:compare[ds]?|comparing|comparison|versus|vs|differences?|differs?|different|which|better|best|"
    r"instead of|side by side|both|than|against)\b"
)
EITHER = re.compile(rf"{HERE}[^.?!{HERE}]{{0,12}}\bor\b[^.?!{HERE}]{{0,12}}{HERE}")
FITS = re.compile(r"\b(?:fits?|compatible|(?:works?|goes?) with|use)\b")
RECOMMENDS = re.compile(
    r"\b(?:recommend\w*|suggest\w*|looking for|looks for|look for|which|find (?:me|us|her|him|them)|"
    r"(?:an?|any) (?:good|decent)|best)\b"
)
_OTHER_TOPIC = (
    r"\b(?:return(?:ed|s)?|refund\w*|warranty|guarantee|ship\w*|deliver\w*|exchange\w*|repair\w*|cancel\w*|"
    r"orders?|ordered|why|how (?:do|can|should|to|often|long)|broken|broke|stopped|arrived|reviews?|"
    r"complain\w*|way to|(?:customers|people) (?:say|think))\b"
)
OTHER_TOPIC = re.compile(_OTHER_TOPIC)
OTHER_QUESTION = re.compile(
    rf"{_OTHER_TOPIC}|\A\W*(?:does|did|is (?:the|this|my|it)|are (?:the|these|my)|when|where|"
    r"can (?:i|she|he|they|we|you) (?:use|put|wash))\b"
)
PRICE_ASKED = re.compile(
    r"\bhow much (?:is|are|for|was|does it cost|do they cost|money)\b|\bhow much\W*$|\bprices?\b|\bcosts?\b"
)
RATING_ASKED = re.compile(r"\b(?:ratings?|rated|stars)\b")
ASKS_WHAT_TO_DO = re.compile(
    r"\b(?:why|how (?:do|can|could|should|to)|what (?:do|should|can|must) (?:i|we|you|she|he|they))\b"
)
MATERIAL_ASKED = re.compile(r"\bmade (?:of|from|out of)\b|\bmaterials?\b")
AGAINST = re.compile(r"\b(?:than|alternatives? to|instead of|similar to)\W{0,3}(?:the |an? )?$")


# --- directions -------------------------------------------------------------------------------------------
MORE = re.compile(
    r"\b(?:most|more|high(?:er|est)|larg(?:er|est)|bigg(?:er|est)|long(?:er|est)|maximum|greatest|better|best|"
    r"wid(?:er|est)|strong(?:er|est))\b"
)
LESS = re.compile(
    r"\b(?:least|less|low(?:er|est)|small(?:er|est)|short(?:er|est)|few(?:er|est)|minimum|fast(?:er|est)|"
    r"quick(?:er|est))\b"
)
BETTER = re.compile(r"\b(?:better|best)\b")
WELL_RATED = re.compile(r"\b(?:good|great|high|excellent|decent|well|top)\W{0,2}$")
"""Before "rating" and "rated"."""
MORE_IS_LOW = frozenset({"accuracy", "precision"})
"""Words of properties whose number is an error: more precision is a smaller one."""
GOOD_IS_LOW = frozenset({"noise", "weight", "price", "accuracy", "precision", "time", "folded"})

COLDEST = frozenset({"comfort", "limit", "lower", "lowest", "minimum", "min", "extreme"})
"""Words of a temperature's name by which it is the lowest one that an item is good for: a limit on it is an
upper bound, and "good to at least -10 °C" is met by -15 °C."""


class Meaning(NamedTuple):
    """What a word such as "quiet" asks for."""

    direction: Direction
    properties: tuple[frozenset[str], ...]


def _lexicon() -> dict[str, Meaning]:
    found: dict[str, Meaning] = {}
    for line in word_file("en_item_words"):
        said, _, meant = line.partition(": ")
        direction, _, names = meant.partition(" ")
        properties = tuple(frozenset(PIECE.findall(name)) for name in names.split(", "))
        for word in said.split(", "):
            found[word] = Meaning("low" if direction == "low" else "high", properties)
    return found


LEXICON = _lexicon()
NAMES_ONLY = frozenset(
    {"weigh", "weighs", "weight", "cost", "costs", "price", "prices", "rated", "rating", "ratings"}
)
"""Words that name a property without saying which end is wanted."""
OF_OPINION = frozenset(
    word for word, meaning in LEXICON.items() if frozenset({"rating"}) in meaning.properties
)
"""Words such as "best", which ask for no value of one item."""
_MONEY = frozenset(word for name in CURRENCY_NAMES for word in PIECE.findall(name))
FILLER = _MONEY.union((f"{word}s" for word in _MONEY), *word_groups("en_item_filler").values())
"""Words that are no wish."""


# --- negation ---------------------------------------------------------------------------------------------
_LOOKS_BACK = 60
"""Characters before a word that may deny it."""
_MOST_BETWEEN = 4
"""Words between a negation and what it denies."""
_ASKED = r"(?! (?:you|we|there|they|i|he|she|it|the|this|that)\b)"
"""After "isn't": "isn't there a glass one" denies nothing."""
_NEGATOR = (
    r"(?:(?<!\byou )not(?! (?:only|just|sure|find|see|know|decide|understand|remember)\b)|"
    rf"(?:is|are|was|do|does|did|ca|could|has|have|wo|would|should|must)n'?t(?! find| see| know| decide)"
    rf"{_ASKED}|cannot(?! find| see| decide)|no(?! (?:longer|problem|worries|idea|preference)\b)|without|"
    r"w/o|non|never|nothing|neither|nor|lacks?|lacking|avoid(?:s|ing)?|except(?: for)?|excluding|"
    r"minus(?! \d)|other than|rather than|instead of|free (?:of|from)|hates?|dislikes?|allergic to)"
)
_NEGATION = re.compile(
    rf"\b{_NEGATOR}(?!\w)(?! (?:more|less|fewer|over|above|under|below|exceeding|\w+er than)\b)"
)
_EXCEPT = re.compile(
    r"\b(?:anything|any|all|everything) but\b|"
    r"\b(?:not|no|nothing|none)(?: (?:ones?|things?|models?|items?))? (?:that|which|with|made)"
    r"(?: (?:is|are|has|have|of))?\b"
)
_ONLY = re.compile(r"\bnothing but\b")
_BREAK = re.compile(r"[.,;:?!\n]|\b(?:but|with|which|that|who)\b")
_AND = re.compile(r"\band\b")
_SPREADS = re.compile(r"\b(?:without|w/o|neither|free (?:of|from)|avoid(?:s|ing)?|excluding|allergic to)\b")
"""After these, "and" joins what is denied: "without Wi-Fi and Bluetooth"."""
_QUALITY = re.compile(r"(?:able|ible|proof|safe|free)$")
"""How words for a quality end: "without contact and waterproof" wants the second."""
_MAY_LACK = re.compile(
    r"\b(?:(?:do|does|did|need)(?: not|n'?t)(?: really)? (?:need|have to|need to|mind|care|matter|be)|"
    r"no need (?:for|of|to)|not necessarily|no matter|needn'?t|whether|regardless of)\b"
)
_OR_NOT = re.compile(
    r"[\w -]{0,20}?\b(?:or not|(?:is|are)(?: not|n'?t) (?:needed|necessary|required|important|a must)|"
    r"does(?: not|n'?t) matter|is optional|optional|unimportant)\b"
)
_FREE = re.compile(r"[- ]free\b(?! (?:of|from)\b)")
_DEGREES = (
    r"(?:\s(?:be|being|is|so|too|very|as|that|all|overly|really|particularly|especially|terribly|extremely|"
    r"quite|a|an|the|one|get|feel|look|exactly)){0,4}"
)
_FLIPS = re.compile(rf"\b(?:less|least|{_NEGATOR}){_DEGREES}\s$")
_DENIES_BOUND = re.compile(
    rf"\b{_NEGATOR}(?:\s(?:weigh\w*|cost\w*|be|being|is|are|wants?|like|to|spend|pay|go|goes|needs?|takes?|run|have|"
    r"a|an|anything|something|one|that|any|much)){0,4}\s*$"
)


def stance(text: str, start: int, end: int) -> Stance:
    """Return whether a folded text wants what it says at [start, end), or denies it: "not plastic"."""
    after = text[end : end + _LOOKS_BACK]
    before = _ONLY.sub("only", text[max(0, start - _LOOKS_BACK) : start])
    clause = _BREAK.split(_EXCEPT.sub("except", before))[-1]
    if _MAY_LACK.search(clause) or _OR_NOT.match(after):
        return "open"
    is_denied = _is_denied(clause, text[start:end])
    return "unwanted" if is_denied != bool(_FREE.match(after)) else "wanted"


def _is_denied(clause: str, word: str) -> bool:
    found = [*_NEGATION.finditer(clause)]
    if not found:
        return False
    between = clause[found[-1].end() :]
    if _AND.search(between) and (_QUALITY.search(word) or not _SPREADS.search(found[-1][0])):
        return False
    return len(PIECE.findall(between)) <= _MOST_BETWEEN


def is_flipped(text: str, start: int) -> bool:
    """Return whether a word of degree at ``start`` asks for its opposite: "not too heavy", "less noisy"."""
    before = _EXCEPT.sub("except", text[max(0, start - _LOOKS_BACK) : start])
    return _FLIPS.search(before) is not None


def bound_before(text: str) -> Literal["upper", "lower"] | None:
    """Return which bound the words at the end of a text make of the amount after them."""
    found = UPPER.search(text)
    is_upper = found is not None
    found = found or LOWER.search(text)
    if found is None:
        return None
    if _DENIES_BOUND.search(text[: found.start("said")]):
        is_upper = not is_upper
    return "upper" if is_upper else "lower"


# --- spelling ---------------------------------------------------------------------------------------------
_LEAST_LETTERS, _TWO_EDITS_FROM = 4, 9
_MOST_LOOKED_UP = 8
"""Unknown words of one question."""
_QUESTION_WORDS = frozenset(
    "compare compared comparing comparison versus difference differences differ different which better best "  # noqa: SIM905
    "instead recommend recommended recommendation suggest suggestion looking similar alternative between "
    "under below above least most maximum minimum within without except anything nothing cheaper cheapest "
    "reviews opinions customers complain complaints experience".split()
)
_CLOSED = sorted(_QUESTION_WORDS | {word for word in LEXICON if word.isalpha()})


def respelled(folded: str, is_known: Callable[[str], bool]) -> str:
    """Return a folded question with its misspelt words of the closed lists as the lists have them.

    ``is_known``: whether a word is spelled right as it is.
    """

    left = _MOST_LOOKED_UP

    def right(found: re.Match[str]) -> str:
        nonlocal left
        word = found[0]
        if len(word) < _LEAST_LETTERS or not word.isalpha() or word in _CLOSED or is_known(word) or not left:
            return word
        left -= 1
        edits = 2 if len(word) >= _TWO_EDITS_FROM else 1
        near = extract(word, _CLOSED, scorer=OSA.distance, score_cutoff=edits, limit=4)
        nearest = [one for one, distance, _ in near if one[0] == word[0] and distance == near[0][1]]
        return nearest[0] if nearest else word

    return PIECE.sub(right, folded)


# --- opinions ---------------------------------------------------------------------------------------------
_OPINION = re.compile(
    r"\b(?:customers?|buyers?|people|users?|owners?|reviewers?|parents|others|everyone|anyone|those)\b"
    r"[^.?!]{0,24}\b(?:say|says|said|saying|thinks?|reports?|mention|mind|feel|find|like|love|hate|complain\w*|"
    r"buy|recommend|experience|happy|satisfied)\b|"
    r"\b(?:reviews?|opinions?|experiences?|feedback|complaints?|complain\w*|testimonials?|any good|"
    r"worth (?:it|buying)|worst|best thing|in practice|real (?:users|life)|regret)\b|"
    r"\b(?:say|says|according to) (?:the )?(?:customers|buyers|users|owners|people|reviews)\b"
)
_AGAINST_IT = re.compile(
    r"\b(?:complain\w*|complaints?|worst|problems?|issues?|faults?|defects?|downsides?|drawbacks?|cons|"
    r"negatives?|dislikes?|hates?|disappoint\w*|regret\w*|unhappy|dissatisfied|annoy\w*|criti\w+|"
    r"wrong with|weakness\w*)\b"
)
_FOR_IT = re.compile(
    r"\b(?:best thing|praise[sd]?|pros|positives?|loves?|strengths?|(?:do|does) \w+ like|happy with|"
    r"satisfied)\b"
)
_YES_OR_NO = re.compile(r"\A\W*(?:do|does|did|is|are|was|has|have|can|will|would)\b")
Opinion = Literal["against", "for", "both"]


def opinion_asked(folded: str) -> Opinion | None:
    """Return which opinions of customers a question asks for; None where it asks for none."""
    against = _AGAINST_IT.search(folded) is not None
    if not (against or _OPINION.search(folded)):
        return None
    is_for = _FOR_IT.search(folded) is not None
    if against == is_for or _YES_OR_NO.match(folded):
        return "both"  # "do people complain that it leaks?" has two answers
    return "against" if against else "for"
