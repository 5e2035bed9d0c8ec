"""Recognises postal addresses, e-mail and IP addresses, and links that lead to a patient."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from assistant.learning.patient_numbers import PatientData, Rule, any_of, compiled
from assistant.text.language import word_groups, word_set

_WORDS = word_groups("en_addresses")

# --- addresses --------------------------------------------------------------------------------------------
_STATES = any_of(_WORDS["states"])
_STATE_NAMES = any_of(_WORDS["state names"])
_SHORT_STATES = any_of(_WORDS["short states"])
"""With a full stop."""
_ZIP = r"\d{5}(?:-\d{4})?(?!\d)"
_CAPITALS = r"(?-i:[A-Z][\w'-]*\.?(?: (?:(?:du|de|la|of|the|on) )?[A-Z][\w'-]*\.?){0,2})"
_TOWN = rf"(?-i:(?!{any_of(_WORDS['no towns'])}\b)[A-Z][a-z]{{2,}}(?: [A-Z][a-z]{{2,}})?)"
"""A town without a comma before it."""
_CITY = (
    rf"(?:(?:[,;]?| -) (?:in )?(?:[a-z][a-z'.-]+ ){{0,2}}[a-z][a-z'.-]+,? (?:{_STATES}|{_STATE_NAMES}),? "
    rf"{_ZIP}|(?:[,;]?| -) (?:in )?{_CAPITALS}[,;]? (?:(?-i:{_STATES})\b\.?|(?-i:{_STATE_NAMES})\b|"
    rf"(?-i:{_SHORT_STATES})\.)(?:,? {_ZIP})?|"
    rf",? {_CAPITALS},? {_ZIP}|, {_CAPITALS}(?![\w'])|,? in {_CAPITALS}|, (?:[a-z][a-z'.-]+ )"
    rf"{{0,2}}[a-z][a-z'.-]+,? (?:{_STATES}|{_STATE_NAMES})\b| {_TOWN}(?![\w'])|,? (?:zip(?: code)"
    rf"? )?{_ZIP}|(?: [a-z]{{3,}}){{1,2}} (?:{_STATES})(?= ?(?:[.,;!?)\n]|\Z))|(?:,| in) "
    rf"[a-z]{{3,}}(?: [a-z]{{3,}})?(?= ?(?:[.,;!?)\n]|\Z)))"
)
_UNIT = (
    r"(?:,? ?(?:(?:apt|apartment|unit|suite|ste|floor|fl|room|rm|building|bldg|lot|trailer|trlr|"
    r"no\.|space|slip|pmb|ofc|office|level)\b\.? ?#?|#) ?[a-z\d-]{1,6}\b|"
    r",? ?(?:(?:1st|2nd|3rd|\d{1,2}th|first|second|third|top|ground|upper|lower|main) (?:floor|"
    r"fl|level)|rear|"
    r"upstairs|downstairs|basement|bsmt|penthouse)\b|, ?\d{1,4}[a-z]\b|,? ?\((?:rear|upper|lower|upstairs|"
    r"downstairs|basement)(?: level| unit)?\))"
)
_STREETS = any_of(_WORDS["streets"])
_NUMBERED = (
    r"(?:(?:old )?(?:(?:county|state|us|u\.s\.|private|township|ranch|farm to market) "
    r"(?:road|rd|route|rte|highway|hwy|drive|dr)|highway|hwy|route|rte|cr|us|u\.s\.|fm|interstate|i-) "
    r"?\d{1,4}[a-z]?)|(?:calle|camino|avenida|paseo|via|rue|carrera)(?: (?:de|del|la|las|los|"
    r"el)){0,2} [a-z\d][\w'-]*"
)
_HOUSE = r"(?:(?-i:[NSEW])\d{1,5}[ -]?)?(?-i:[NSEWnsew])?\d{1,6}(?:-\d{1,5})?(?:-?(?-i:[A-Za-z]))?(?: ?1/2)?"
_DIRECTION = r"(?:(?:north(?:east|west)?|south(?:east|west)?|east|west|ne|nw|se|sw|[nsew])\b\.?)"
_STREET = (
    rf"{_HOUSE} (?:{_DIRECTION} )?(?:{_NUMBERED}|the (?:crescent|green|commons|circle|mews|terrace)\b|"
    rf"(?P<names>(?:[a-z\d][\w'.-]* ){{1,4}}?)"
    rf"(?P<suffix>{_STREETS})\b\.?(?: (?:{_STREETS})\b\.?)?|broadway\b|(?:avenue|ave\.?) [a-z]\b)"
    rf"(?: {_DIRECTION})?"
)
_NO_STREET = word_set("en_stop") | word_set("en_units") | word_groups("en_patient_cues")["no street"]
_GIVEN, _SURNAMES = word_set("en_given_names"), word_set("en_surnames")
_UNSURE_STREETS = word_groups("en_patient_cues")["unsure streets"]


def _is_street(value: str) -> bool:
    """Whether the words between house number and street type may be a street's name."""
    match = _STREET_PARTS.match(value)
    if match is None or match["names"] is None:
        return True
    names = match["names"].split()
    if any(name.lower().strip(".") in _NO_STREET for name in names):
        return False
    has_capitals = all(name[0].isupper() or name[0].isdigit() for name in names)
    is_followed = re.search(r"\d|,", value[match.end() :]) is not None
    return has_capitals or match["suffix"].lower() not in _UNSURE_STREETS or is_followed or len(names) == 1


def _names_no_quantity(value: str) -> bool:
    """Whether none of the words after a number is a unit or a word that no street is called."""
    return not any(word.lower().strip(".,") in _NO_STREET for word in value.split()[1:4])


_STREET_PARTS = re.compile(_STREET, re.IGNORECASE)


def _postal() -> Iterator[Rule]:
    address = (
        rf"(?<![\w.-])(?P<value>(?:{_UNIT}[, ]{{1,2}})?{_STREET}(?: \d{{1,3}}(?-i:[A-Z])"
        rf"\b)?{_UNIT}{{0,2}}{_CITY}?{_UNIT}?(?: "
        rf"{_ZIP})?)(?!\w)"
    )
    yield Rule(
        kind=PatientData.ADDRESS,
        pattern=compiled(address),
        score=0.96,
        accepts=_is_street,
        is_tried_again=True,
    )
    any_street = (
        rf"(?<![\w.-])(?P<value>{_HOUSE} {_CAPITALS}(?: {_CAPITALS})?{_UNIT}{{0,2}},? {_CAPITALS},? "
        rf"(?-i:{_STATES})\b(?:,? {_ZIP})?)"
    )
    yield Rule(kind=PatientData.ADDRESS, pattern=compiled(any_street), score=0.7)
    box = (
        rf"\b(?P<value>(?:p\.? ?o\.? ?b(?:ox)?\.?|post office box|"
        rf"p\.? ?o) ?#?\d{{1,6}}(?:-?[a-z]\b)?{_CITY}?)(?!\w)"
    )
    yield Rule(kind=PatientData.ADDRESS, pattern=compiled(box), score=0.85)
    route = (
        r"(?:(?:(?:rr|r\.r\.|rural (?:route|rt|rte)|route|rte|rt|psc|hc|highway contract|star route|cmr|unit)"
        r" ?#?\d{1,5},? (?:box|bx) ?#?\d{1,5}[a-z]?)|(?:box|bx) ?#?\d{1,5}[a-z]?,? (?:rr|route|rte|"
        r"rt|star route)"
        r" ?#?\d{1,4})"
    )
    forces = rf"[afd]po,? a[ape]\b(?:,? {_ZIP})?"
    rural = rf"\b(?P<value>{route}(?:,? {forces}|{_CITY})?|{forces}(?:,? {route})?)(?!\w)"
    yield Rule(kind=PatientData.ADDRESS, pattern=compiled(rural), score=0.85)
    no_type = (
        rf"(?<![\w.-])(?P<value>{_HOUSE} (?:(?-i:[NSEW]|North|South|East|West)\.? (?-i:[A-Z][a-z'-]{{2,}})"
        rf"(?: (?-i:[A-Z][a-z'-]{{2,}}))?{_UNIT}{{0,2}}|{_CAPITALS}(?=,? ?(?:apt|apartment|unit|"
        rf"suite|ste|room|rm|bldg|lot|trailer)\b"
        rf"\.? ?#?[a-z]{{0,2}}-?\d){_UNIT}{{1,2}}){_CITY}?)(?!\w)"
    )
    yield Rule(kind=PatientData.ADDRESS, pattern=compiled(no_type), score=0.6, accepts=_names_no_quantity)
    park = (
        rf"\b(?P<value>(?:(?:lot|space|unit|apt|apartment|room|rm|trailer|site) ?#?[a-z]?\d{{1,4}}[a-z]?,? )"
        rf"(?:at )?(?:the )?{_CAPITALS} ?(?:mobile home park|mhp|mobile park|trailer park|rv park|"
        rf"apartments?|apts?|"
        rf"manor|towers?|village|estates?|terrace|nursing home|assisted living|senior living){_CITY}?)(?!\w)"
    )
    yield Rule(kind=PatientData.ADDRESS, pattern=compiled(park), score=0.8)
    city = rf"(?<!\w)(?P<value>{_CAPITALS},? (?:(?-i:{_STATES})\.?|(?-i:{_SHORT_STATES})\.),? {_ZIP})"
    yield Rule(kind=PatientData.ADDRESS, pattern=compiled(city), score=0.75)
    capital_street = (
        rf"(?<![\w'])(?P<value>(?-i:(?:(?:North|South|East|West|[NSEW])\.? )?(?:[A-Z][a-z'-]+ |"
        rf"\d{{1,3}}(?:st|nd|rd|th) ){{1,2}}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Boulevard|Blvd|"
        rf"Terrace|Parkway|Pkwy|Highway|Turnpike)\b)(?! (?:branch|store|location|pharmacy|clinic|"
        rf"office|desk|shop)\b)(?: \d{{1,5}}\b)?{_UNIT}?{_CITY}?)(?!\w)"
    )
    yield Rule(kind=PatientData.ADDRESS, pattern=compiled(capital_street), score=0.55)
    said = (
        r"\b(?:lives? (?:at|on)|living at|(?:home|mailing|shipping|street|new|old|delivery)? "
        r"?address(?: on file)?(?: is| to| was|:)|"
        r"ship(?:ped|ping)? (?:\w+ )?to|deliver(?:ed|y)? (?:\w+ )?to|mail(?:ed)? (?:\w+ )?to|"
        r"mov(?:ed|ing) to|sent? (?:\w+ )?to) "
        rf"(?P<value>{_HOUSE} (?-i:[A-Z\d][\w'.-]*)(?: (?-i:[A-Z][\w'.-]*)){{0,3}}{_UNIT}?{_CITY}?)(?!\w)"
    )
    yield Rule(kind=PatientData.ADDRESS, pattern=compiled(said), score=0.7)


# --- e-mail, IP address, URL ------------------------------------------------------------------------------
_OF_NOBODY = compiled(
    rf"{any_of(_WORDS['mailboxes'])}(?:[._-]?(?:desk|team|office|dept|requests?|support))?@"
)
_PERSONAL = compiled(
    rf"[?&#;][\w.-]+=|@|/~|=\d{{4,}}|/{any_of(_WORDS['folders of people'])}/[^/\s]+|"
    r"(?:facebook|instagram|twitter|x|tiktok|threads|linkedin)\.com/[^/\s]+|/(?!(?:19|20)\d\d\b)[a-z_-]*\d{4,}|"
    r"/(?=[a-z\d_-]*\d)(?=[a-z\d_-]*[a-z])(?![a-z]+(?:-[a-z]+)*-\d{1,4}\b)[a-z\d_-]{12,}"
)
"""What leads to one person: a query, an account's part of the path, a long number or key."""
_PARTS = re.compile(r"[^\W\d_]+")


def _is_personal(link: str) -> bool:
    host, _, path = (link.partition("://")[2] or link).partition("/")
    names = [part.lower() for part in _PARTS.findall(path)]
    pairs = itertools.pairwise(names)
    return (
        "@" in host
        or _PERSONAL.search(f"/{path}") is not None
        or _PERSONAL.match(f"{host}/{path}") is not None
        or any(given in _GIVEN and surname in _SURNAMES for given, surname in pairs)
    )


def _online() -> Iterator[Rule]:
    kinds = PatientData
    mail = r"(?<![\w.+-])(?P<value>[\w.+'-]{1,64}@[a-z\d-]{1,63}(?:\.[a-z\d-]{1,63}){1,6}(?<!-))"
    yield Rule(
        kind=kinds.EMAIL_ADDRESS,
        pattern=compiled(mail),
        score=0.95,
        accepts=lambda value: _OF_NOBODY.match(value) is None,
        refused_after=None,
    )
    spoken = (
        r"\b(?P<value>[a-z\d][\w.-]{0,40}(?: dot [\w-]{1,20}){0,3} ?(?:\(at\)|\[at\]| at ) ?[a-z\d-]{1,63} "
        r"?(?:\(dot\)|\[dot\]| dot ) ?(?:com|net|org|edu|gov))\b"
    )
    yield Rule(kind=kinds.EMAIL_ADDRESS, pattern=compiled(spoken), score=0.9, refused_after=None)
    link = (
        r"\b(?P<value>(?:https?://|www\.)[^\s<>\"')\]]{0,2000}[^\s<>\"')\].,;:!?]|[a-z\d-]{1,63}"
        r"(?:\.[a-z\d-]{1,63}){1,6}/[^\s<>\"')\]]{0,2000}[^\s<>\"')\].,;:!?])"
    )
    yield Rule(
        kind=kinds.URL,
        pattern=compiled(link),
        score=0.99,
        accepts=_is_personal,
        refused_after=None,
    )


def address_rules() -> tuple[Rule, ...]:
    """Return the rules of addresses and links."""
    return (*_postal(), *_online())
