"""Decodes text of any encoding: by its mark, by what it declares, as UTF-8, else judged.

charset-normalizer judges which of nine encodings are plausible. Between these, signs out of place decide: the
apostrophe of a Mac is "Õ" inside a word in Windows-1252. docs/decisions/0108 has what was tried.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

from assistant.domain.errors import DocumentInvalidError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""The mark of UTF-32 begins with that of UTF-16."""
_DECLARATION = re.compile(
    rb"""<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([\w.:-]{1,40})|<meta\b[^>]{0,300}?\bcharset\s*=\s*["']?\s*([\w.:-]{1,40})""",
    re.I,
)
_DECLARED_WITHIN = 4096
"""Bytes. The HTML standard looks at 1,024; real pages put scripts before it."""
_TEXT_ENCODING = re.compile(r"ascii|big5|cp\d|euc|gb|hz|iso|johab|koi8|mac|shift|tis|utf-(8|16|32)")
"""Python has encodings that are none of texts, as "unicode_escape"."""
_JUDGED = (
    "cp1252",
    "mac_roman",
    "cp1251",
    "cp1250",
    "iso8859_15",
    "iso8859_2",
    "koi8_r",
    "cp1253",
    "cp1254",
)
"""Of two that are as plausible, the first."""
_MOST_SIGNS = 2_000
"""Signs above ASCII that are judged."""
_MOST_STRANGE = 0.2
"""Share of them that may be out of place."""
_INSIDE_WORDS = "\u2019\u2018\u2010\u2011\u2013\u2014\u2026\u00ad\u00a0"
_BESIDE_WORDS = (
    f"{_INSIDE_WORDS}\u201c\u201d\u201a\u201e\u2022\u2122\u00ae\u00a9\u00b0\u00b2\u00b3\u00b9\u00b7"
)
_OPENING = {"\u00a1": "!", "\u00bf": "?"}
_ALONE = "\u00c0\u00c9\u00d3\u00c5\u00d6"
"""Capital letters that are words: "À", "É", "Ö"."""
_ORDINALS = "\u00aa\u00ba"
_APART = ({"LATIN", "CYRILLIC"}, {"LATIN", "GREEK"}, {"CYRILLIC", "GREEK"})
"""Scripts that no word mixes."""
_RARE = "\u0160\u0161\u017d\u017e\u0192\u0152\u0153\u0178"
"""Letters of Windows-1252 that a Mac's encoding has as "ä", "ö", "é" or "û"."""
_NEVER = "\u00a4\u00a6\u00ac\u00b4\u00b8\ufb01\ufb02"
"""Signs that texts do not have: spacing accents, broken bars, ligatures that a Mac's encoding has."""


def decoded(raw: bytes, *, declared: str | None = None) -> str:
    """Return a text by its mark, else as ``declared``, else as UTF-8, else as judged.

    Raises DocumentInvalidError for bytes whose encoding cannot be told.
    """
    marked = next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), None)
    text = _read(raw, marked or (_known(declared) if declared else None))
    if not marked and (text is None or _strange_share(text) > _MOST_STRANGE):
        text = None if b"\0" in raw else _read(raw, "utf-8")
        text = _judged(raw) if text is None and b"\0" not in raw else text
    if text is None:
        problem = "its encoding is unknown or cannot be told from another one"
        raise DocumentInvalidError(f"{problem}. Save it as UTF-8.")
    return text


def decoded_page(raw: bytes) -> str:
    """Return the text of a page that may declare its encoding, as HTML and XML do. Raises
    DocumentInvalidError."""
    found = _DECLARATION.search(raw[:_DECLARED_WITHIN])
    declared = (found[1] or found[2]).decode() if found else None
    is_wide = declared is not None and declared.lower().startswith("utf-16")  # then it would not be readable
    return decoded(raw, declared=None if is_wide else declared)


def _known(declared: str) -> str | None:
    """Return the encoding that browsers take for a declared one; None for one that is unknown."""
    try:
        name = codecs.lookup(declared).name
    except LookupError:
        return None
    if name in ("iso8859-1", "ascii"):
        return "cp1252"
    return name if _TEXT_ENCODING.match(name) else None


def _read(raw: bytes, encoding: str | None) -> str | None:
    try:
        return raw.decode(encoding) if encoding else None
    except UnicodeError:
        return None


def _judged(raw: bytes) -> str | None:
    from charset_normalizer import from_bytes

    plausible = from_bytes(raw, cp_isolation=list(_JUDGED), preemptive_behaviour=False)
    chaos = {str(match): match.chaos for match in plausible}
    readings = [text for encoding in _JUDGED if (text := _read(raw, encoding)) in chaos]
    ranked = sorted((_strange_share(text), chaos[text], place) for place, text in enumerate(readings) if text)
    if not ranked or ranked[0][0] > _MOST_STRANGE:
        return None
    best, mac = readings[ranked[0][2]], _read(raw, "mac_roman")
    equal = {readings[place] for *rank, place in ranked if rank == [*ranked[0][:2]]}
    is_open = mac in equal and any(
        sign != other and sign in _RARE for sign, other in zip(best, mac, strict=True)
    )
    return None if is_open else best


def _strange_share(text: str) -> float:
    """Return the share of signs above ASCII that are out of place."""
    signs = [
        found.start() for found, _ in zip(re.finditer(r"[^\0-\x7f]", text), range(_MOST_SIGNS), strict=False)
    ]
    strange = sum(
        _is_strange(text[at], text[max(0, at - 3) : at], text[at + 1 : at + 4], text) for at in signs
    )
    return strange / max(1, len(signs))


def _is_strange(sign: str, before: str, after: str, text: str) -> bool:
    """Return whether a sign above ASCII is out of place, between the three signs before and after it."""
    last, following = before[-1:], after[:1]
    if sign in _NEVER or unicodedata.category(sign) in ("Cc", "Co", "Lm", "Sk"):
        return True
    if sign in _OPENING:
        return last.isalpha() or _OPENING[sign] not in text
    if sign in _ORDINALS and last.isalpha():
        return True
    near = last.isalpha(), following.isalpha()
    if sign.isalpha():
        return not (last.isdigit() and sign in f"{_ORDINALS}\u00b5") and _is_strange_letter(
            sign, before, following
        )
    is_sign = unicodedata.category(sign) in ("Sm", "So", "Po") and sign not in _BESIDE_WORDS
    return (any(near) and is_sign) or (all(near) and sign not in _INSIDE_WORDS)


def _is_strange_letter(letter: str, before: str, following: str) -> bool:
    last = before[-1:]
    if letter.isupper() and (last.islower() or (last.isalpha() and following.islower())):
        return True
    if not last.isalpha() and not following.isalpha():
        is_capital = letter.isupper() and letter not in _ALONE
        return is_capital or last.isdigit() or following.isdigit()
    script = _script(letter)
    if script == "LATIN" and len(before) == 3 and all(char.isalpha() and char > "\x7f" for char in before):
        return True
    return any({script, _script(char)} in _APART for char in (last, following) if char.isalpha())


def _script(char: str) -> str:
    return unicodedata.name(char, "").partition(" ")[0]
