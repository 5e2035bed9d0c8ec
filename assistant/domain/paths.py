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


def canonical_path(path: str) -> str:
    """Return the form of a path for comparison; never store it.

    It is in Unicode's NFKC with folded case and without invisible characters. Empty parts, ``.`` and ``..``
    are resolved; spaces around a part and dots at its end are removed, as Windows does.

    >>> canonical_path("./Pay\\\\2026. /a.md")
    'pay/2026/a.md'
    """
    text = unicodedata.normalize("NFKC", _visible(unicodedata.normalize("NFKC", path)).casefold())
    parts: list[str] = []
    for written in text.replace("\\", "/").split("/"):
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
    "pay". It looks as if it had the access labels of "pay", and would not get them.
    """
    canonical = {folder: canonical_path(folder) for folder in folders}
    canonical_file = f"{canonical_path(path)}/"
    exact = max((folder for folder in canonical if _is_below(path, folder)), key=len, default=None)
    above = (folder for folder, form in canonical.items() if _is_below(canonical_file, form))
    alike = max(above, key=lambda folder: len(canonical[folder]), default=None)
    if exact != alike and (exact is None or alike is None or canonical[exact] != canonical[alike]):
        name = path if path.isascii() and path.isprintable() else f"{path} ({path!a})"
        raise DocumentInvalidError(
            f'{name:.400}: its folder resembles the declared folder "{alike or exact}" and is not spelled '
            "so. Rename the file's folder, or declare its spelling beside that one."
        )
    return exact


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
