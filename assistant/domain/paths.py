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
"""Signs of Unicode's Default_Ignorable_Code_Point outside its categories C, and the empty Braille pattern."""


def canonical_path(path: str) -> str:
    """Return a path as it is compared, never stored: Unicode's NFKC with folded case, without signs that
    nobody sees, and of its parts none that is empty, ``.`` or ``..``, ends in a dot, or has spaces around it.

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
    """Return the longest of the declared folders that a file is below; ``""`` is for all others, and None is
    returned where no folder is.

    Raises DocumentInvalidError where the file is below a folder in another spelling only: it would get what
    other folders give, or nothing.
    """
    compared = {folder: canonical_path(folder) for folder in folders}
    path_compared = f"{canonical_path(path)}/"
    written = max((folder for folder in compared if _is_below(path, folder)), key=len, default=None)
    below = (folder for folder, form in compared.items() if _is_below(path_compared, form))
    meant = max(below, key=lambda folder: len(compared[folder]), default=None)
    if written != meant and (written is None or meant is None or compared[written] != compared[meant]):
        name = path if path.isascii() and path.isprintable() else f"{path} ({path!a})"
        raise DocumentInvalidError(
            f'{name:.400}: its folder resembles the declared folder "{meant or written}" and is not spelled '
            "so. Rename the file's folder, or declare its spelling beside that one."
        )
    return written


def is_on_this_machine(url: str) -> bool:
    """Return whether the address is a loopback one; other host names are not resolved."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # another name, or none
        return False


def _visible(text: str) -> str:
    """Return a text without control signs, format signs and signs without a shape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each for each in _INVISIBLE.sub("", text) if unicodedata.category(each)[0] != "C")


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")
