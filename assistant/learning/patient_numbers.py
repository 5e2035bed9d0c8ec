"""Recognises numbers, addresses and dates that lead to a patient: by pattern, check digit and label.

A label ("member ID", "DOB") takes the value that follows in the same sentence; a value without a label needs
a shape or a check digit of its own. A number under another label ("order", "NDC", "BIN") is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from assistant.text.language import word_groups, word_set


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


def digits_of(value: str) -> str:
    return "".join(character for character in value if character.isdigit())


def passes_luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of ISO/IEC 7812."""
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return bool(digits) and (sum(map(int, digits[-1::-2])) + sum(n // 10 + n % 10 for n in doubled)) % 10 == 0


def is_npi(value: str) -> bool:
    """Return whether ten digits are a National Provider Identifier: Luhn with the prefix 80840."""
    digits = digits_of(value)
    return len(digits) == 10 and digits[0] in "12" and passes_luhn(f"80840{digits}")


def is_dea_number(value: str) -> bool:
    """Return whether the seventh digit is the check digit of a DEA number."""
    digits = [int(digit) for digit in digits_of(value)[-7:]]
    return len(digits) == 7 and (sum(digits[0:6:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]


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


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


# --- pieces of patterns -----------------------------------------------------------------------------------
_DASH = r"[-\u2010-\u2015\u2212]"
_APART = rf"(?:{_DASH}|[. \u00a0])"
_YEAR = r"(?:(?:19|20)\d{2}|\d{2})"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_FULL_DATE = (
    rf"(?:(?:19|20)\d{{2}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.]{_YEAR}|"
    rf"{_MONTH}[ -]{_DAY},? '?{_YEAR}|{_DAY}[ -](?:of )?{_MONTH}[ ,-]{{1,2}}'?{_YEAR})"
)
_DATE = (
    rf"(?:{_FULL_DATE}|\d{{1,2}} \d{{1,2}} {_YEAR}|{_MONTH}[ -]{_DAY}|(?:the )?{_DAY}[ -](?:of )?{_MONTH}|"
    rf"{_MONTH} (?:19|20)\d{{2}}|\d{{8}}|\d{{1,2}}/\d{{1,2}}|(?:19|20)\d{{2}})"
)
FULL_DATE = re.compile(
    rf"(?<![\w/.-])(?P<value>\d{{1,2}}[-/.]\d{{1,2}}[-/.](?P<year>{_YEAR}))(?![\w/-])", re.IGNORECASE
)
"""A date by numbers, the month or the day first."""
_IS_DATE = re.compile(rf"(?:19|20)\d{{2}}([-/.])\d{{1,2}}\1\d{{1,2}}|\d{{1,2}}([-/.])\d{{1,2}}\2{_YEAR}")
_NUMBER = r"(?:id(?:entification)?s?(?: ?(?:#|numbers?|no\b\.?))?|numbers?|nos?\b\.?|num\b|nr\b|#)"
_PHONE = (
    rf"(?:\+?1{_APART}?)?(?:\(\d{{3}}\) ?{_DASH}?|\d{{3}}(?:{_APART}|/))\d{{3}}{_APART}\d{{4}}"
    r"(?:,? ?(?:x|ext\.?|extension) ?\d{1,6})?"
)
_CODE = r"(?:[a-z]{1,6}-?|(?-i:[A-Z]{1,4}) )?\d[a-z\d]*(?:-[a-z\d]+| \d{2,}[a-z\d]*(?![\w/]))*"
"""Letters and digits with a digit in them, in groups."""
_GAP = r"(?P<gap>(?:[^\d.!?]|(?<=\bno)\.|(?<=\bo\.b)\.){0,48}?)"
"""Between a label and its value: no digit and no end of a sentence."""
_MOST_WORDS_BETWEEN = 7


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
        r"(?:(?:member(?:ship)?|subscriber|card ?holder|beneficiary|enrollee|insured|policy ?holder|"
        r"policy|insurance|"
        rf"health ?plan|plan|medicare|medicaid|coverage)(?:'s)?(?: card)? ?{_NUMBER}|\b(?:mbi|hicn|"
        rf"mbr)\b(?: ?{_NUMBER})?|"
        r"\b(?:insurance|medicare|medicaid|member(?:ship)?|id) card\b)",
        _CODE,
        _has_digits(4, 20),
        r"\b(?:member(?:ship)?|subscriber|cardholder|medicaid|medicare)\b",
    ),
    _Labelled(
        PatientData.RX_NUMBER,
        rf"\b(?:rx|prescription|script|scrip|refill)s? ?{_NUMBER}",
        r"[a-z]{0,3}-?\d(?:[\d-]*\d)",
        _has_digits(5, 14),
        r"\b(?:rx|prescription|script|scrip|refill|refilling|fill)s?\b",
    ),
    _Labelled(
        PatientData.MEDICAL_RECORD_NUMBER,
        rf"(?:\bmrn\b(?: ?{_NUMBER})?|\b(?:med(?:ical)?|health|hospital) ?rec(?:ord)?s? ?{_NUMBER}|"
        rf"\b(?:patient|pt|chart|hospital|record|profile|emr|ehr)(?:'s)? ?{_NUMBER})",
        r"[a-z]{0,4}-?\d(?:[\d-]*\d)",
        _has_digits(4, 14),
        r"\b(?:chart|medical record|mr)\b",
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
        rf"(?:\bssn\b|\bss ?#|\bsocial(?: security)?\b)(?: ?{_NUMBER})?",
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
        r"\b(?:d\.? ?o\.? ?b\b\.?|(?:date|day|year) of birth|birth ?(?:date|day)s?|b-?day|born(?: on|"
        r" in)?(?: the)?)\b",
        _DATE,
        lambda _: True,
        r"\bbd\b",
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
    r"cell|qty|quantity|forms?|extension|ext|rx)\b",
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


@dataclass(frozen=True, slots=True)
class FoundNumber:
    kind: PatientData
    start: int
    end: int
    score: float


def find_numbers(text: str, rules: Sequence[Rule]) -> Iterator[FoundNumber]:
    """Yield what the rules find. Findings may overlap: the better score counts."""
    for rule in rules:
        for match in rule.pattern.finditer(text):
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


def _is_of_business(rule: Rule, text: str, match: re.Match[str]) -> bool:
    """Whether a toll-free number is said to be a company's."""
    start = match.start("value")
    before = text[max(0, start - 2 * _LONGEST_BEFORE) : start]
    is_phone = rule.kind is PatientData.PHONE_NUMBER
    return is_phone and _TOLL_FREE.match(match["value"]) is not None and _BUSINESS.search(before) is not None


def _is_short(match: re.Match[str]) -> bool:
    """Whether nothing but a few words without another label is between a label and its value."""
    gap = match.groupdict().get("gap")
    return not gap or (len(gap.split()) <= _MOST_WORDS_BETWEEN and _OTHER_LABEL.search(gap) is None)


def rules() -> tuple[Rule, ...]:
    """Return all rules."""
    return (*_labelled(), *_by_shape(), *_addresses(), *_addresses_online())


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _labelled() -> Iterator[Rule]:
    for each in _LABELLED:
        single = _compiled(each.value)
        value = rf"(?P<value>{each.value}(?:(?:,| and|,? &| or|/) ?(?:also )?{each.value}(?!\w))*)(?![\w%])"
        follows = _compiled(rf"{each.label}{_GAP}(?<![\w.-]){value}")
        yield Rule(kind=each.kind, pattern=follows, score=0.95, accepts=each.accepts, single=single)
        words = rf"{each.label}|{each.alone}" if each.alone else each.label
        is_called = (
            r"(?:,? (?:is|was|being) (?:the |her |his |their |my |its )?(?:patient's )?| ?\((?:the |her |"
            r"his )?)"
        )
        precedes = _compiled(rf"(?<![\w.-])(?P<value>{each.value}){is_called}(?:{words})")
        yield Rule(kind=each.kind, pattern=precedes, score=0.9, accepts=each.accepts)
        if each.alone:
            directly = _compiled(
                rf"(?:{each.alone})(?P<gap>[ :#=\-\u2013(]*(?:(?:is|was|no|number)[ :.#]+)?){value}"
            )
            yield Rule(kind=each.kind, pattern=directly, score=0.9, accepts=each.accepts, single=single)
    date = rf"(?<![\w/.-])(?P<value>{_FULL_DATE}) (?:dob|d\.o\.b\.?)(?![\w:]| ?[\d(:])"
    yield Rule(kind=PatientData.DATE_OF_BIRTH, pattern=_compiled(date), score=0.85)
    generic = rf"\b(?:id|i\.d\.)(?: ?(?:#|number|no\b\.?))?{_GAP}(?<![\w.-])(?P<value>{_CODE})(?!\w)"
    yield Rule(
        kind=PatientData.MEMBER_NUMBER,
        pattern=_compiled(generic),
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
    yield Rule(kind=PatientData.SOCIAL_SECURITY_NUMBER, pattern=_compiled(last_four), score=0.9)


def _shape(
    kind: PatientData, value: str, score: float, accepts: Callable[[str], bool] = lambda _: True
) -> Rule:
    pattern = rf"(?<![\w.-])(?P<value>{value})(?![\w-])(?!\.\d)"
    return Rule(kind=kind, pattern=_compiled(pattern), score=score, accepts=accepts)


def _by_shape() -> Iterator[Rule]:
    kinds = PatientData
    ssn = rf"\d{{3}}({_APART})\d{{2}}\2\d{{4}}"
    yield _shape(kinds.SOCIAL_SECURITY_NUMBER, ssn, 0.85, is_social_security_number)
    yield _shape(kinds.SOCIAL_SECURITY_NUMBER, r"(?:xxx|\*\*\*)-?(?:xx|\*\*)-?\d{4}", 0.85)
    card = r"\d{4}([ -]?)\d{4}\2\d{4}\2\d{4}|\d{4}([ -]?)\d{6}\3\d{5}"
    yield _shape(kinds.PAYMENT_CARD, card, 0.9, is_payment_card)
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
    yield _shape(kinds.MEMBER_NUMBER, medicare, 0.9)
    others = "pa|clm|ord|inv|tkt|case|ref|lot|ndc|fda|trk|rx|mrn|npi|dea|po|ae"
    yield _shape(kinds.MEMBER_NUMBER, rf"(?!(?:{others})\d)[a-z]{{1,3}}\d{{8,12}}", 0.6)
    yield _shape(kinds.RX_NUMBER, r"rx[-#]?\d{5,12}(?:-\d{1,3})?", 0.95)
    yield _shape(kinds.MEDICAL_RECORD_NUMBER, r"mrn[-#]?\d{4,12}", 0.95)
    yield _shape(kinds.PHONE_NUMBER, _PHONE, 0.75)


# --- addresses --------------------------------------------------------------------------------------------
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|"
    "NM|NY|NC|ND|OH|OK|OR|PA|"
    "PR|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC"
)
_STATE_NAMES = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|"
    "Hawaii|Idaho|Illinois|"
    "Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|"
    "Mississippi|Missouri|"
    "Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina|North "
    "Dakota|Ohio|Oklahoma|"
    "Oregon|Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|"
    "Virginia|Washington|"
    "West Virginia|Wisconsin|Wyoming"
)
_ZIP = r"\d{5}(?:-\d{4})?(?!\d)"
_CAPITALS = r"(?-i:[A-Z][\w'.-]*(?: [A-Z][\w'.-]*){0,2})"
_CITY = (
    rf"(?:,? (?:in )?(?:[a-z][a-z'.-]+ ){{0,2}}[a-z][a-z'.-]+,? (?:{_STATES}|{_STATE_NAMES}),? {_ZIP}|"
    rf",? (?:in )?{_CAPITALS},? (?:(?-i:{_STATES})\b|(?-i:{_STATE_NAMES})\b)(?:,? {_ZIP})?|,? "
    rf"{_CAPITALS},? {_ZIP}|"
    rf", {_CAPITALS}(?![\w'])|,? (?:zip(?: code)? )?{_ZIP})"
)
_UNIT = (
    r"(?:,? ?(?:(?:apt|apartment|unit|suite|ste|floor|fl|room|rm|building|bldg|lot|trailer|trlr|"
    r"space)\b\.? ?#?|#) ?[a-z\d-]{1,6}\b)"
)
_STREETS = (
    "street|st|avenue|ave|av|boulevard|blvd|road|rd|lane|ln|drive|dr|court|ct|terrace|ter|"
    "parkway|pkwy|highway|hwy|circle|cir|"
    "square|sq|trail|trl|turnpike|tpke|crescent|cres|alley|way|place|pl|loop|row|path|pike|"
    "point|ridge|crossing|xing|plaza|"
    "cove|hill|hollow|landing|heights|gardens|glen|creek|walk|run|bend|pass|view|commons|mews|"
    "park|close|broadway"
)
_NUMBERED = (
    r"(?:(?:highway|hwy|route|rte|county road|county rd|state road|state route|cr|us|interstate) "
    r"?\d{1,4}[a-z]?)"
)
_HOUSE = r"\d{1,6}(?:-\d{1,5})?(?-i:[A-Za-z])?(?: ?1/2)?"
_DIRECTION = r"(?:(?:north|south|east|west|ne|nw|se|sw|[nsew])\b\.?)"
_STREET = (
    rf"{_HOUSE} (?:{_DIRECTION} )?(?:{_NUMBERED}|(?P<names>(?:[a-z\d][\w'.-]* ){{1,4}}?)"
    rf"(?P<suffix>{_STREETS})\b(?:\.(?=[ ,]))?(?: (?:{_STREETS})\b(?:\.(?=[ ,]))?)?|broadway\b)"
    rf"(?: {_DIRECTION})?"
)
_NO_STREET = word_set("en_stop") | word_set("en_units") | word_groups("en_patient_cues")["no street"]
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


_STREET_PARTS = re.compile(_STREET, re.IGNORECASE)


def _addresses() -> Iterator[Rule]:
    address = rf"(?<![\w.-])(?P<value>{_STREET}{_UNIT}?{_CITY}?{_UNIT}?)(?!\w)"
    yield Rule(kind=PatientData.ADDRESS, pattern=_compiled(address), score=0.96, accepts=_is_street)
    box = rf"\b(?P<value>p\.? ?o\.? ?box ?#?\d{{1,6}}{_CITY}?)(?!\w)"
    yield Rule(kind=PatientData.ADDRESS, pattern=_compiled(box), score=0.85)
    rural = rf"\b(?P<value>(?:rr|rural route) ?#?\d{{1,3}},? box ?#?\d{{1,5}}{_CITY}?)(?!\w)"
    yield Rule(kind=PatientData.ADDRESS, pattern=_compiled(rural), score=0.85)
    city = rf"(?<!\w)(?P<value>{_CAPITALS},? (?-i:{_STATES}) {_ZIP})"
    yield Rule(kind=PatientData.ADDRESS, pattern=_compiled(city), score=0.75)
    said = (
        r"\b(?:lives? (?:at|on)|living at|(?:home|mailing|shipping|street|new|old|delivery)? "
        r"?address(?: on file)?(?: is| to| was|:)|"
        r"ship(?:ped|ping)? (?:\w+ )?to|deliver(?:ed|y)? (?:\w+ )?to|mail(?:ed)? (?:\w+ )?to|"
        r"mov(?:ed|ing) to|sent? (?:\w+ )?to) "
        rf"(?P<value>{_HOUSE} (?-i:[A-Z\d][\w'.-]*)(?: (?-i:[A-Z][\w'.-]*)){{0,3}}{_UNIT}?{_CITY}?)(?!\w)"
    )
    yield Rule(kind=PatientData.ADDRESS, pattern=_compiled(said), score=0.7)


# --- e-mail, IP address, URL ------------------------------------------------------------------------------
_OF_NOBODY = re.compile(
    r"(?:info|support|help(?:desk)?|contact|privacy|billing|claims?|refunds?|no-?reply|appeals?|"
    r"records?|pharmacy|office|admin|"
    r"service|care|hello|sales|returns?|complaints?|faxes|orders?|team|desk|"
    r"customer[._-]?(?:care|service))(?:[._-]?(?:desk|team|"
    r"office|dept|request|requests|support))?@",
    re.IGNORECASE,
)
_PERSONAL = re.compile(
    r"[?&#;](?:[a-z]*_)?(?:user|username|name|first|last|fname|lname|firstname|lastname|email|"
    r"mail|member|patient|pt|pid|id|uid|"
    r"mrn|rx|dob|phone|ssn|token|account|acct|session|login|subscriber|card|auth|key)[a-z_]*=|"
    r"/(?:users?|u|patients?|pts?|profiles?|members?|accounts?|people|person|in|charts?|records?|"
    r"rx|prescriptions?|me)/[^/\s]+|/~|@|"
    r"(?:facebook|instagram|twitter|x|tiktok|threads)\.com/[^/\s]+|=\d{5,}|/\d{5,}",
    re.IGNORECASE,
)


def _addresses_online() -> Iterator[Rule]:
    kinds = PatientData
    mail = r"(?<![\w.+-])(?P<value>[\w.+'-]+@[a-z\d](?:[a-z\d-]*[a-z\d])?(?:\.[a-z\d-]*[a-z\d])+)"
    yield Rule(
        kind=kinds.EMAIL_ADDRESS,
        pattern=_compiled(mail),
        score=0.95,
        accepts=lambda value: _OF_NOBODY.match(value) is None,
        refused_after=None,
    )
    spoken = (
        r"\b(?P<value>[a-z\d][\w.-]*(?: dot [\w-]+)* ?(?:\(at\)|\[at\]| at ) ?[a-z\d-]+ ?(?:\(dot\)|"
        r"\[dot\]| dot ) ?(?:com|net|org|edu|gov))\b"
    )
    yield Rule(kind=kinds.EMAIL_ADDRESS, pattern=_compiled(spoken), score=0.9, refused_after=None)
    address = (
        r"(?<![\w.:])(?P<value>\d{1,3}(?:\.\d{1,3}){3}|[\da-f]{0,4}(?::[\da-f]{0,4}){2,7})(?![\w:]|\.\d)"
    )
    yield Rule(
        kind=kinds.IP_ADDRESS,
        pattern=_compiled(address),
        score=0.85,
        accepts=_is_address,
        refused_after=_compiled(r"\b(?:v|ver|version|release|build|firmware|app)\.? ?(?:is |to )?\Z"),
    )
    link = (
        r"\b(?P<value>(?:https?://|www\.)[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]|[a-z\d-]+(?:\.[a-z\d-]+)"
        r"+/[^\s<>\"')\]]*[^\s<>\"')\].,;:!?])"
    )
    yield Rule(
        kind=kinds.URL,
        pattern=_compiled(link),
        score=0.99,
        accepts=lambda value: _PERSONAL.search(value.partition("://")[2] or value) is not None,
        refused_after=None,
    )
