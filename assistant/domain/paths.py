"""Comparing paths and addresses: files below a source, folders of the tenant file, keys of the inbox.

Paths are kept and shown as they were written, and ids are made of that. Where access hangs on a comparison,
two spellings of one path must not differ, so ``canonical_path`` is what is compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from assistant.domain.errors import DocumentInvalidError

_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
"""Characters that show nothing: Unicode's Default_Ignorable_Code_Point outside its categories C (those
``_visible`` removes by category), and the empty Braille pattern U+2800."""
_SEPARATOR = re.compile("[/\\\\\u2044\u2215\u2216\u2571\u2572\u27cb\u27cd\u29f5\u29f8\u29f9]")
"""Slash, backslash, and signs that look like one of them (UTS 39, confusables)."""
_LETTERS = re.compile(r"[^\W\d_]+")
_SCRIPTS_TOGETHER = (
    {"LATIN", "CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA"},
    {"LATIN", "CJK", "BOPOMOFO"},
    {"LATIN", "CJK", "HANGUL"},
)
"""Scripts that one word may mix, by their names in Unicode: level "Highly Restrictive" of UTS 39, 5.2."""
_GREEK_SIGNS = re.compile(
    "[\u03b1-\u03b8\u03bb\u03bc\u03be\u03c0\u03c2\u03c3\u03c6\u03c8\u03c9\u0393\u0394\u0398\u039b\u039e\u03a0\u03a3\u03a6\u03a8\u03a9]"
)
"""Greek letters that no Latin letter resembles: "TNF\u03b1", "IL6\u03b2". They may be mixed with any
script."""


def canonical_path(path: str) -> str:
    """Return the form of a path for comparison; never store it.

    It is in Unicode's NFKC with folded case and without invisible characters. Empty parts, ``.`` and ``..``
    are resolved, also between signs that look like slashes; spaces around a part and dots at its end are
    removed, as Windows does.

    >>> canonical_path("./Pay\\\\2026. /a.md")
    'pay/2026/a.md'
    """
    text = unicodedata.normalize("NFKC", _visible(unicodedata.normalize("NFKC", path)).casefold())
    parts: list[str] = []
    for written in _SEPARATOR.split(text):
        part = " ".join(written.split())
        if part == "..":
            del parts[-1:]
        elif part := part.rstrip(". "):
            parts.append(part)
    return "/".join(parts)


def folder_of(path: str, folders: Iterable[str]) -> str | None:
    """Return the longest of the declared folders that a file is below, or None. The folder ``""`` contains
    every file. Folders are compared exactly as they are written.

    >>> folder_of("pay/2026/a.md", ["", "pay", "pay/2026"])
    'pay/2026'

    Raises DocumentInvalidError where ``canonical_path`` finds another folder: "Pay/a.md" with the folder
    "pay". It looks as if it had the access labels of "pay", and would not get them. Raises it, too, for a
    folder below the declared one with a word in two scripts.
    """
    canonical = {folder: canonical_path(folder) for folder in folders}
    canonical_file = f"{canonical_path(path)}/"
    exact = max((folder for folder in canonical if _is_below(path, folder)), key=len, default=None)
    above = (folder for folder, form in canonical.items() if _is_below(canonical_file, form))
    alike = max(above, key=lambda folder: len(canonical[folder]), default=None)
    name = path if path.isascii() and path.isprintable() else f"{path} ({path!a})"
    if any(canonical):
        check_scripts(path[len(exact or "") :].rpartition("/")[0], what=f"{name:.400}: its folder")
    if exact != alike and (exact is None or alike is None or canonical[exact] != canonical[alike]):
        raise DocumentInvalidError(
            f'{name:.400}: its folder resembles the declared folder "{alike or exact}" and is not spelled '
            "so. Rename the file's folder, or declare its spelling beside that one."
        )
    return exact


def check_scripts(text: str, *, what: str) -> None:
    """Raise DocumentInvalidError for a word in two scripts, which may look like another word. ``what`` begins
    the message: "the folder"."""
    for word in _LETTERS.findall(unicodedata.normalize("NFKC", text)):
        letters = _GREEK_SIGNS.sub("", word)
        scripts = {re.split(r"[ -]", unicodedata.name(letter, ""))[0] for letter in letters}
        if len(scripts) > 1 and not any(scripts <= allowed for allowed in _SCRIPTS_TOGETHER):
            problem = f'has letters of {" and ".join(sorted(scripts))} in the word "{word:.80}"'
            raise DocumentInvalidError(f"{what} {problem}. Write a word in one script.")


def is_on_this_machine(url: str) -> bool:
    """Return whether the address is a loopback one; other host names are not resolved."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # another name, or none
        return False


def _visible(text: str) -> str:
    """Return a text without control characters, format characters and those that show nothing."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char for char in _INVISIBLE.sub("", text) if unicodedata.category(char)[0] != "C")


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")
