"""Resolves links between the files of a source: the path of a file gives the id of its document."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from itertools import product
from urllib.parse import unquote

from assistant.documents.files import PAGES, page_id
from assistant.domain.documents import id_prefix_of

_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,62}:|//")
_INDEXES = ("index", "README", "_index")
"""Files that the address of a folder opens: on web servers, on GitHub, in Hugo."""


def linked_ids(address: str, *, document_id: str, origin: str) -> Iterator[str]:
    """Yield the ids that a link of a document, which came from the file ``origin``, may mean, the likeliest
    first; they are of its source. An address elsewhere, or above the source's root, has none."""
    path, page = unquote(re.split("[?#]", address)[0]), _page(origin)
    if not path or _ELSEWHERE.match(address):
        return
    ending = posixpath.splitext(origin)[0].removeprefix(page)  # ".html.md" of how.html.md.erb
    for base in _roots(origin) if path.startswith("/") else (posixpath.dirname(origin), page):
        target = posixpath.normpath(posixpath.join(base, path.lstrip("/")))
        if target.partition("/")[0] != "..":
            for name, end in product(_names(_page(target)), dict.fromkeys((ending, ""))):
                yield id_prefix_of(document_id) + page_id(f"{name}{end}.md")


def _names(page: str) -> list[str]:
    indexes = [posixpath.join(page, index) for index in _INDEXES]
    return indexes if page == "." else [page, *indexes]


def _roots(origin: str) -> Iterator[str]:
    """Yield the folders around a file, from the source's root: one of them is the root of its site."""
    return (origin[: found.start()] for found in re.finditer(r"(?<!.)|/", origin))


def _page(path: str) -> str:
    """Return the path of a page without its suffixes: "hr/leave" of "hr/leave.html.md.erb"."""
    while suffix := next((suffix for suffix in PAGES if path.lower().endswith(suffix)), ""):
        path = path[: -len(suffix)]
    return path
