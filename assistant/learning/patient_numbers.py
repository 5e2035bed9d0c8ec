"""Recognises numbers, addresses and dates that lead to a patient: by pattern, check digit and label.

A label ("member ID", "DOB") takes the value that follows in the same sentence; a value without a label needs
a shape or a check digit of its own. A number under another label ("order", "NDC", "BIN") is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from assistant.text.check_digits import digits_of, is_dea_number, is_npi, passes_luhn


class PatientData(StrEnum):
    """What is replaced: the placeholder's name."""

    PERSON = "PERSON"
    PHONE_NUMBER = "PHONE_NUMBER"
    """Of fax too."""
    EMAIL_ADDRESS = "EMAIL_ADDRESS"
    SOCIAL_SECURITY_NUMBER = "SOCIAL_SECURITY_NUMBER"
    PAYMENT_CARD = "PAYMENT_CARD"
    NPI = "NPI"
    """National Provider Identifier."""
    DEA_NUMBER = "DEA_NUMBER"
    """A prescriber's registration with the Drug Enforcement Administration."""
    DATE_OF_BIRTH = "DATE_OF_BIRTH"
    ADDRESS = "ADDRESS"
    MEMBER_NUMBER = "MEMBER_NUMBER"
    RX_NUMBER = "RX_NUMBER"
    MEDICAL_RECORD_NUMBER = "MEDICAL_RECORD_NUMBER"
    IP_ADDRESS = "IP_ADDRESS"
    URL = "URL"
    """Only with parts that lead to a person."""


# --- check digits and values ------------------------------------------------------------------------------


def is_payment_card(value: str) -> bool:
    """Return whether the digits have a card network's prefix and length, and the check digit."""
    digits = digits_of(value)
    networks = (
        r"4\d{12}|4\d{15}|4\d{18}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|(?:6011|65\d\d|64[4-9]\d)"
        r"\d{12}|35\d{14}|3[068]\d{12}"
    )
    return re.fullmatch(networks, digits) is not None and passes_luhn(digits)


def is_social_security_number(value: str) -> bool:
    """Return whether the number is one that is given out."""
    digits = digits_of(value)
    return digits[:3] not in ("000", "666") and digits[3:5] != "00" and digits[5:] != "0000"


def _has_digits(least: int, most: int) -> Callable[[str], bool]:
    return lambda value: least <= len(digits_of(value)) <= most and not _IS_DATE.fullmatch(value)


# --- pieces of patterns -----------------------------------------------------------------------------------
_DASH = r"[-\u2010-\u2015\u2212]"
_APART = rf"(?:{_DASH}|[. \u00a0])"
_YEAR = r"(?:(?:19|20)\d{2}|\d{2})"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_PART = r"(?:0?[1-9]|[12]\d|3[01])"
"""A day or a month."""
_FULL_DATE = (
    rf"(?:(?:19|20)\d{{2}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|{_PART}[-/.]{_PART}[-/.]{_YEAR}|"
    rf"{_MONTH}[ /-]{_DAY},?[ /-]'?(?:of )?{_YEAR}|{_DAY}[ /-](?:of )?{_MONTH}[ ,/-]{{1,2}}'?{_YEAR})"
)
_DATE = (
    rf"(?:{_FULL_DATE}|\d{{1,2}} \d{{1,2}} {_YEAR}|{_MONTH}[ -]{_DAY}|(?:the )?{_DAY}[ -](?:of )?{_MONTH}|"
    rf"{_MONTH} (?:19|20)\d{{2}}|\d{{8}}|\d{{6}}|\d{{1,2}}/\d{{1,2}}|(?:19|20)\d{{2}})"
)
FULL_DATE = re.compile(rf"(?<![\w/.-]){_FULL_DATE}(?![\w/-])", re.IGNORECASE)
"""A date with day, month and year."""
_IS_YEAR = re.compile(r"(?:19|20)\d{2}")
_IS_DATE = re.compile(rf"(?:19|20)\d{{2}}([-/.])\d{{1,2}}\1\d{{1,2}}|{_PART}([-/.]){_PART}\2{_YEAR}")
_NUMBER = r"(?:id(?:entification)?s?(?: ?(?:#|numbers?|no\b\.?))?|numbers?|nos?\b\.?|(?:num|nr|nbr)\b\.?|#)"
_PHONE = (
    rf"(?:\+?1{_APART}?)?(?:\(\d{{3}}\) ?{_DASH}?|\d{{3}}(?:{_APART}|/))\d{{3}}{_APART}\d{{4}}"
    r"(?:,? ?(?:x|ext\.?|extension) ?\d{1,6})?"
)
_NO_CODE = (
    r"(?!(?:is|was|the|for|her|his|are|and|of|on|it|its|in|my|at|to|no|as|but|has|had|out|too|or)\b|"
    r"(?:id|ids|num|nr|rx)\b(?![-_#]\d))"
)
_CODE = (
    rf"(?<!\w){_NO_CODE}(?:[a-z]{{1,8}}[-/]?|rx[_#]|(?-i:[A-Z]{{1,4}}[ -]){{1,2}}|"
    rf"[a-z]{{1,3}} )?\d[a-z\d]{{0,19}}"
    r"(?:[-./*#_\u2010-\u2015][a-z\d]{1,14}| [-/\u2013] \d{3,12}(?![\w/])| ?/ ?0\d(?![\w/])| ?\(0\d{1,2}\)| "
    r"\d{2,12}[a-z\d]{0,6}(?![\w/])| \d(?= \d)| "
    r"(?-i:[A-Z]{1,3}\d{1,12}[A-Z\d]{0,6})| "
    r"(?-i:[A-Z]{2,4})(?=[ -]\d)|"
    r" (?-i:[A-HJ-Z])(?!\w)| \d(?= ?(?:[.,;:!?)]|\Z))){0,9}"
)
"""Letters and digits with a digit in them, in groups."""
_GAP = (
    r"(?P<gap>(?:[^\d.!?]|(?<![\w.])\d{1,4}(?:\.\d)? ?(?:mg|mcg|ml|g|units?|iu|%|days?)\b|"
    r"(?<=\bno)\.|(?<=\bo\.b)\.){0,48}?)"
)
"""Between a label and its value: no digit and no end of a sentence."""
_MOST_WORDS_BETWEEN = 7
_RX_WORDS = (
    "rx|prescription|perscription|presc|prescrip|script|scrip|scrpt|refill|refilling|fill|bottle|label|vial"
)


# --- labels and their values ------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Labelled:
    """A kind that is known by the words before or after it."""

    kind: PatientData
    label: str
    value: str
    accepts: Callable[[str], bool]
    alone: str = ""
    """Words that are labels only where the value follows directly."""


_LABELLED = (
    _Labelled(
        PatientData.MEMBER_NUMBER,
        r"(?:(?:member(?:ship)?|subscriber|\bsub|card ?holder|beneficiary|enrollee|insured|policy ?holder|"
        r"certificate|\bcert|dependent|medi-cal|"
        r"policy|insurance|"
        rf"health ?plan|plan|medicare|medicaid|coverage)(?:'s)?(?: card)? ?{_NUMBER}|\b(?:mbi|hicn|"
        rf"mbr)\b(?: ?{_NUMBER})?|"
        r"\b(?:insurance|medicare|medicaid|member(?:ship)?|plan|health|drug|pharmacy|id|new|old|her|"
        r"his|their) "
        r"card\b)",
        _CODE,
        _has_digits(4, 20),
        r"\b(?:member(?:ship)?|subscriber|cardholder|medicaid|medicare|insurance|coverage|policy)\b",
    ),
    _Labelled(
        PatientData.RX_NUMBER,
        rf"\b(?:{_RX_WORDS})s?\.? ?{_NUMBER}",
        _CODE,
        lambda value: _has_digits(4, 24)(value) and _IS_YEAR.fullmatch(value) is None,
        rf"\b(?:{_RX_WORDS})s?\b\.?",
    ),
    _Labelled(
        PatientData.MEDICAL_RECORD_NUMBER,
        rf"(?:\bmrn\b(?: ?{_NUMBER})?|\b(?:med(?:ical)?|health|hospital) ?rec(?:ord)?s? ?{_NUMBER}|"
        r"\b(?:patient|pt|chart|hospital|clinic|unit|record|profile|account|acct|emr|ehr|epic|visit|"
        r"encounter|mr)"
        rf"(?:'s)? ?{_NUMBER})",
        _CODE,
        _has_digits(4, 14),
        r"\b(?:charts?|(?:medical )?records?|mr|emr|ehr|acct)\b",
    ),
    _Labelled(
        PatientData.NPI,
        rf"(?:\bnpi\b(?: ?{_NUMBER})?|national provider id(?:entifier)?)",
        r"(?:\d{10}|\d{3}[ -]\d{3}[ -]\d{4})",
        _has_digits(10, 10),
    ),
    _Labelled(
        PatientData.DEA_NUMBER,
        rf"\bdea\b(?: ?(?:registration ?)?{_NUMBER})?",
        r"[a-z][a-z9][ -]?\d{7}",
        _has_digits(7, 8),
    ),
    _Labelled(
        PatientData.SOCIAL_SECURITY_NUMBER,
        rf"\b(?:ssn|ss|s\.s\.n?\.?|soc(?:ial)?\.? ?sec(?:urity)?|social|itin|tax)\b(?: ?{_NUMBER}| card)?",
        rf"(?:\d{{3}}|[x*]{{3}}){_APART}?(?:\d{{2}}|[x*]{{2}}){_APART}?\d{{4}}",
        _has_digits(4, 9),
    ),
    _Labelled(
        PatientData.PHONE_NUMBER,
        r"\b(?:(?:tele)?phones?|fax(?:es|ed)?|cells?|mobiles?|landline|voicemail|tel|ph|callback|"
        r"call(?:ed|ing)?|"
        rf"reach(?:ed|able)?|text(?:ed)?|dial(?:ed)?|rang)\b(?: ?{_NUMBER})?",
        rf"(?:{_PHONE}|1?\d{{10}}|\d{{3}}{_APART}\d{{4}}|\d{{3}}{_APART}\d{{7}})",
        _has_digits(7, 17),
        r"\b(?:home|work|contact|numbers?|ring|at)\b",
    ),
    _Labelled(
        PatientData.DATE_OF_BIRTH,
        r"\b(?:d[./]? ?o[./]? ?b\b\.?|(?:date|day|year) of birth|birth ?(?:date|day)s?|b-?day|born(?: on|"
        r" in)?(?: the)?)\b",
        _DATE,
        lambda _: True,
        r"\b(?:bd|b\.|birth)",
    ),
    _Labelled(
        PatientData.PAYMENT_CARD,
        r"(?:\b(?:credit|debit|payment|visa|mastercard|amex|american express|discover|hsa|fsa|bank)(?: card)?"
        rf"(?: ?{_NUMBER})?|\bcard ?{_NUMBER})",
        r"(?:\d{4}(?:[ -]?\d{4}){3}|\d{4}[ -]?\d{6}[ -]?\d{5})",
        _has_digits(15, 16),
    ),
    _Labelled(PatientData.ADDRESS, r"\b(?:zip|postal)(?: ?code)?\b", r"\d{5}(?:-\d{4})?", _has_digits(5, 9)),
)
_OTHER_LABEL = re.compile(
    "|".join(each.label for each in _LABELLED if each.kind is not PatientData.PHONE_NUMBER)
    + r"|\b(?:rejects?|codes?|ndc|bin|pcn|grp|group|lot|order|tracking|claim|invoice|case|ticket|phone|fax|"
    r"cell|qty|quantity|extension|ext|rx)\b",
    re.IGNORECASE,
)
_OTHER_NUMBER = re.compile(
    r"\b(?:order|tracking|claim|invoice|case|ticket|ref(?:erence)?|confirmation|auth(?:orization)"
    r"?|approval|ndc|upc|"
    r"lot|serial|sku|bin|pcn|group|grp|form|transaction|gtin|item|po|model|batch|version|"
    r"document|article|shipment|"
    rf"ncpdp|cost|price|amount|code|reject|gift)s?\b[ :]*(?:{_NUMBER}|card)?[ :=#]*(?:is |was )?\Z",
    re.IGNORECASE,
)
"""Directly before a number or its label: it is of another kind."""
_EXPLAINED = re.compile(
    r"(?:\b(?:ndc|upc|lots?|serial|sku|bin|pcn|group|grp|gtin|batch|ncpdp|tracking|gift card)"
    r"\b(?: [a-z#:]+){0,4}[ :#(=]*|"
    r"\b(?:invoices?|tickets?|ref(?:erence)?|confirmation|auth(?:orization)?|transaction|pa)\b"
    r"(?: (?!(?:for|on|of|rxs?|prescription|script|refill|fill)\b)[a-z#:]+){0,4}[ :#(=]*|"
    r"\b(?:orders?|claims?|shipment|cases?|approval|approved|appeal|forms?|items?|po|model|"
    r"version|documents?|articles?|"
    r"package|parcel|cost|price|amount|paid|balance|codes?|rejects?|rejected|hcpcs|icd|cpt|store|"
    r"location|ext|extension|job|line|"
    r"row|total)\b(?: (?:is|was|number|no|id|shipped|under|code|#)\.?)*[ :#(=]*|\$ ?)\Z",
    re.IGNORECASE,
)
"""Before a number in its sentence: what it is a number of."""
_OTHER_ID = re.compile(
    r"\b(?:order|ticket|case|document|answer|group|transaction|plan|prescriber|provider|pharmacy|"
    r"ncpdp|device|claim|"
    r"driver'?s?|photo|state|user|employee|agent|store|item|product|request|reference|tax|"
    r"session|license)(?:'s)?[ :]*\Z",
    re.IGNORECASE,
)
_TOLL_FREE = re.compile(r"\+?1?\W{0,2}8(?:00|33|44|55|66|77|88)\D")
_BUSINESS = re.compile(
    r"\b(?:desk|hotline|helpline|(?:help|support|prescriber|member|customer) ?(?:line|services?|"
    r"care)|plan|payer|insurer|"
    r"manufacturer|maker|poison control|medwatch|fda|medicare|pharmacy|support|vendor|carrier)\b",
    re.IGNORECASE,
)
_LONGEST_BEFORE = 40
"""Characters that are read before a number for a label of another kind."""


_ALIKE = (PatientData.RX_NUMBER, PatientData.MEMBER_NUMBER)
_NO_UNIT = r"(?! ?(?:units?|iu|mg|mcg|ml|g|%|dollars|usd|tablets|people|patients|steps|miles)\b)"
_PLAIN_NUMBER = re.compile(rf"(?<![\w.$-])\d{{5,12}}(?![\w%-]|[.]\d){_NO_UNIT}")


_LOOSE = (
    (
        PatientData.RX_NUMBER,
        f"{_RX_WORDS}|reverse|override|dispense|transfer|copay|status of|number is",
        r"[a-z]{0,2}-?\d{5,12}(?:-\d{1,3})?",
    ),
    (
        PatientData.MEMBER_NUMBER,
        "member|insurance|card|plan|coverage|policy|subscriber|medicaid|medicare",
        r"(?:[a-z]{1,4}-?)?\d{5,12}[a-z]?(?:-\d{1,3})?",
    ),
)
"""Words that make a number in the rest of the sentence likely to be of a kind."""


# --- rules ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one kind is recognised. ``pattern`` has a group ``value``, and ``gap`` where a label "
    "comes before."""

    kind: PatientData
    pattern: re.Pattern[str]
    score: float
    accepts: Callable[[str], bool] = lambda _: True
    refused_after: re.Pattern[str] | None = _OTHER_NUMBER
    single: re.Pattern[str] | None = None
    """One value, where ``value`` may hold several ("123 and 456")."""
    is_tried_again: bool = False
    """Whether the text of a refused match, from its second word, may hold another match."""


@dataclass(frozen=True, slots=True)
class FoundNumber:
    kind: PatientData
    start: int
    end: int
    score: float


def find_numbers(text: str, rules: Sequence[Rule]) -> Iterator[FoundNumber]:
    """Yield what the rules find, and numbers as long as a found one. Findings may overlap: the better score
    counts."""
    alike: dict[int, PatientData] = {}
    for each in _by_rules(text, rules):
        yield each
        value = text[each.start : each.end]
        if each.kind in _ALIKE and value.isdigit() and len(value) in range(5, 13):
            alike.setdefault(len(value), each.kind)
    if alike:
        for match in _PLAIN_NUMBER.finditer(text):
            before = text[max(0, match.start() - _LONGEST_BEFORE) : match.start()]
            if (kind := alike.get(len(match[0]))) and _EXPLAINED.search(before) is None:
                yield FoundNumber(kind, *match.span(), 0.43)


def _by_rules(text: str, rules: Sequence[Rule]) -> Iterator[FoundNumber]:
    for rule in rules:
        for match in _matches(rule, text):
            begins = match.start() if "gap" in rule.pattern.groupindex else match.start("value")
            before = text[max(0, begins - _LONGEST_BEFORE) : begins]
            is_other = rule.refused_after is not None and rule.refused_after.search(before)
            if is_other or not _is_short(match) or _is_of_business(rule, text, match):
                continue
            within = match.span("value")
            singles = rule.single.finditer(text, *within) if rule.single else (match,)
            for single in singles:
                start, end = single.span() if rule.single else within
                if rule.accepts(text[start:end]):
                    yield FoundNumber(rule.kind, start, end, rule.score)


def _matches(rule: Rule, text: str) -> Iterator[re.Match[str]]:
    at = 0
    while match := rule.pattern.search(text, at):
        yield match
        is_refused = rule.is_tried_again and not rule.accepts(match["value"])
        words = match[0].split(None, 1)
        at = match.end() - len(words[1]) if is_refused and len(words) == 2 else max(match.end(), at + 1)


def _is_of_business(rule: Rule, text: str, match: re.Match[str]) -> bool:
    """Whether a toll-free number belongs to a company."""
    start = match.start("value")
    before = text[max(0, start - 2 * _LONGEST_BEFORE) : start]
    is_phone = rule.kind is PatientData.PHONE_NUMBER
    return is_phone and _TOLL_FREE.match(match["value"]) is not None and _BUSINESS.search(before) is not None


def _is_short(match: re.Match[str]) -> bool:
    """Whether nothing but a few words without another label is between a label and its value."""
    gap = match.groupdict().get("gap")
    return not gap or (len(gap.split()) <= _MOST_WORDS_BETWEEN and _OTHER_LABEL.search(gap) is None)


def number_rules() -> tuple[Rule, ...]:
    """Return the rules of numbers and of dates of birth."""
    return (*_labelled(), *_by_shape())


def compiled(pattern: str) -> re.Pattern[str]:
    """Return the pattern, which does not tell capital letters."""
    return re.compile(pattern, re.IGNORECASE)


def _labelled() -> Iterator[Rule]:
    between = (
        r"[ :#=\-\u2013(]*(?:(?:is|was|are|were|no|number|says|said|reads|has|had|shows|ending|ends)(?: in| "
        r"with)?[ :.#]+)?"
    )
    is_called = (
        r"(?:,? (?:is|was|being) (?:the |her |his |their |my |its )?(?:patient's )?| ?\((?:the |her |his )?)"
    )
    for each in _LABELLED:
        is_common_label = each.kind in (PatientData.PHONE_NUMBER, PatientData.PAYMENT_CARD)
        refused_after = _OTHER_NUMBER if is_common_label else None
        rule = partial(Rule, kind=each.kind, accepts=each.accepts, refused_after=refused_after)
        more = rf"(?:(?:,? and|,? or|,? &|,|/|;) ?(?:also |then )?{each.value}(?!\w)){{0,9}}"
        value, single = rf"(?P<value>{each.value}{more})(?![\w%])", compiled(each.value)
        follows = rf"{each.label}{_GAP}(?<![\w.-]){value}"
        yield rule(pattern=compiled(follows), score=0.95, single=single)
        words = rf"{each.label}|{each.alone}" if each.alone else each.label
        precedes = rf"(?<![\w.-])(?P<value>{each.value}){is_called}(?:{words})"
        yield rule(pattern=compiled(precedes), score=0.9)
        if each.alone:
            directly = rf"(?:{each.alone})(?P<gap>{between}){value}"
            yield rule(pattern=compiled(directly), score=0.9, single=single)
    for kind, words, value in _LOOSE:
        loose = compiled(rf"\b(?:{words})s?\b{_GAP}(?<![\w.$-])(?P<value>{value})(?![\w%]|[./]\d)")
        yield Rule(kind=kind, pattern=loose, score=0.45, accepts=_has_digits(5, 16))
    state = (
        r"(?:too soon|reject|rejected|rejects|rejecting|ready|stuck|on hold|early|filled|refill|reversed|"
        r"transferred)\b"
    )
    judged = compiled(
        rf"(?<![\w.$/-])(?P<value>\d{{5,8}})(?![\w%-]|[./]\d){_NO_UNIT}[^\d.!?\n]{{0,16}}\b{state}"
    )
    yield Rule(kind=PatientData.RX_NUMBER, pattern=judged, score=0.43, refused_after=_EXPLAINED)
    date = rf"(?<![\w/.-])(?P<value>{_FULL_DATE}) (?:dob|d\.o\.b\.?)(?![\w:]| ?[\d(:])"
    yield Rule(kind=PatientData.DATE_OF_BIRTH, pattern=compiled(date), score=0.85)
    generic = rf"\b(?:id|i\.d\.)(?: ?(?:#|number|no\b\.?))?{_GAP}(?<![\w.-])(?P<value>{_CODE})(?!\w)"
    yield Rule(
        kind=PatientData.MEMBER_NUMBER,
        pattern=compiled(generic),
        score=0.8,
        accepts=_has_digits(6, 20),
        refused_after=_OTHER_ID,
    )
    social = r"(?:ssn|social(?: security)?(?: number)?)"
    last_four = (
        rf"(?:\blast (?:4|four)(?: digits)?(?: of| on)?(?: the| her| his| their| my)"
        rf"?[^.!?\d]{{0,20}}{social}[^.!?\d]{{0,20}}|"
        rf"\b{social}[^.!?\d]{{0,20}}(?:last (?:4|four)|ending|ends)[^.!?\d]{{0,12}})(?P<value>\d{{4}})(?!\w)"
    )
    yield Rule(kind=PatientData.SOCIAL_SECURITY_NUMBER, pattern=compiled(last_four), score=0.9)


def _shape(
    kind: PatientData, value: str, score: float, accepts: Callable[[str], bool] = lambda _: True
) -> Rule:
    pattern = rf"(?<![\w.-])(?P<value>{value})(?![\w-])(?!\.\d)"
    return Rule(kind=kind, pattern=compiled(pattern), score=score, accepts=accepts)


def _by_shape() -> Iterator[Rule]:
    kinds = PatientData
    ssn = rf"\d{{3}}({_APART})\d{{2}}\2\d{{4}}"
    yield _shape(kinds.SOCIAL_SECURITY_NUMBER, ssn, 0.85, is_social_security_number)
    yield _shape(kinds.SOCIAL_SECURITY_NUMBER, r"9\d{2}-\d{2}-\d{4}", 0.85)
    yield _shape(kinds.SOCIAL_SECURITY_NUMBER, r"(?:xxx|\*\*\*)-?(?:xx|\*\*)-?\d{4}", 0.85)
    card = r"\d{4}([ -]?)\d{4}\2\d{4}\2\d{4}|\d{4}([ -]?)\d{6}\3\d{5}"
    yield _shape(kinds.PAYMENT_CARD, card, 0.96, is_payment_card)
    yield _shape(kinds.NPI, r"1\d{9}", 0.7, is_npi)
    yield _shape(kinds.NPI, r"2\d{9}", 0.45, is_npi)
    yield _shape(kinds.DEA_NUMBER, r"[abcdefghjklmnprstux][a-z9]-?\d{7}", 0.85, is_dea_number)
    yield _shape(kinds.PHONE_NUMBER, r"1?[2-9]\d{2}[2-9]\d{6}", 0.5)
    yield _shape(kinds.PHONE_NUMBER, rf"555{_DASH}\d{{4}}", 0.6)
    yield _shape(
        kinds.PHONE_NUMBER, rf"\+\d{{1,3}}(?:{_APART}?\(?\d{{1,4}}\)?){{2,6}}", 0.7, _has_digits(8, 15)
    )
    letter, either = "[ac-hj-kmnp-rt-y]", r"[ac-hj-kmnp-rt-y\d]"
    medicare = rf"[1-9]{letter}{either}\d[ -]?{letter}{either}\d[ -]?{letter}{{2}}\d{{2}}"
    yield _shape(kinds.MEMBER_NUMBER, medicare, 0.97)
    others = "pa|clm|ord|inv|tkt|case|ref|lot|ndc|fda|trk|rx|mrn|npi|dea|po|ae"
    yield _shape(kinds.MEMBER_NUMBER, rf"(?!(?:{others})\d)[a-z]{{1,3}}\d{{8,12}}", 0.6)
    yield _shape(kinds.RX_NUMBER, r"rx[-_#]?\d{5,12}[a-z]{0,2}(?:-\d{1,3})?", 0.95)
    yield _shape(kinds.MEDICAL_RECORD_NUMBER, r"mrn[-#]?\d{4,12}", 0.95)
    yield _shape(kinds.PHONE_NUMBER, _PHONE, 0.75)
    mixed = (
        r"(?-i:(?=(?:[A-Z-]{0,9}\d){4})(?:\d{1,9}[A-Z]{1,9}-?\d[A-Z\d-]{0,12}|"
        r"[A-Z]{1,9}\d{1,9}-?[A-Z]{1,9}\d[A-Z\d-]{0,12}))"
    )
    yield _shape(kinds.MEMBER_NUMBER, mixed, 0.42, lambda value: len(value) >= 8)
    yield from _unexplained()


def _unexplained() -> Iterator[Rule]:
    """Yield rules for long numbers that no word explains: they are taken for identifiers of a patient."""
    for kind, value in (
        (PatientData.RX_NUMBER, r"[a-z]{0,2}-?\d{6,8}(?:-\d{1,6})?|\d{2,4}-\d{5,7}"),
        (PatientData.MEMBER_NUMBER, r"[a-z]{0,3}-?\d{9,12}(?:-\d{1,3})?|[a-z]{1,4}\d{6,12}[a-z]?"),
    ):
        pattern = compiled(rf"(?<![\w.$/-])(?P<value>{value})(?![\w-]|[./]\d){_NO_UNIT}")
        yield Rule(
            kind=kind, pattern=pattern, score=0.42, accepts=_has_digits(6, 16), refused_after=_EXPLAINED
        )
