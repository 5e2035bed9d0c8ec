"""The sources of one tenant: which documents belong to a source, who may write them, which labels they may
have.

A document's tenant-wide id begins with its source's namespace and a colon, "hr:leave"; ``own_id`` is the id
within the source, "leave". It contains no colon, so a source cannot name the document of another. One source
may have the empty namespace: its ids have no prefix.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from operator import attrgetter

from assistant.documents.files import SourceDocument, file_of
from assistant.domain.documents import (
    HELD_STATES,
    ID_SEPARATOR,
    MISSING,
    WAITING_STATES,
    Document,
    DocumentState,
    DocumentStatus,
    Loading,
    SourceLoads,
)
from assistant.domain.errors import DocumentInvalidError, NotFoundError, SourceNeededError
from assistant.domain.identity import Identity
from assistant.domain.paths import check_scripts, folder_of
from assistant.stores.documents import StoredStates
from assistant.tenant.tenant import SourceEntry, TenantConfig
from assistant.text.editions import read_in_force

LONGEST_ID = 256
"""Characters of a tenant-wide id."""
_TAG = re.compile(r"\{%[^{}]{0,500}%\}|<%[^<>]{0,500}%>|\{\{[^{}]{0,500}\}\}")
"""Tags of Jekyll, Hugo, MkDocs and ERB. In a source with ``elements``, ``{{ … }}`` names live values."""
_TAG_OF_TEXT = re.compile(r"\{%-?\s{0,9}(?!include)\w{1,60}\s{1,9}([\"'])([^\"'{}]{1,200})\1\s{0,9}-?%\}")
"""A statement of a name and one text, as in ``Ask in {% slack_channel "travel" %}.``"""
_TAG_OF_PATH = re.compile(
    r"\{(?:%-?|\{[<%])\s{0,9}\w{1,60}\s{1,9}(?P<bare>[^\s\"'{}%<>|]{1,200})|[\"'](?P<path>[^\"'{}]{1,200})[\"']"
)
"""The path that a tag in an address names: ``{% link hr/leave.md %}``, ``{{ "/leave/" | relative_url }}``."""
_ADDRESS_BEGUN = re.compile(
    r"(?:\]\(|\]:[ \t]{1,9}|<[a-z][^<>]{0,99}=[\"']?)<?[^\s\"'<>()]{0,99}\Z", re.IGNORECASE
)
"""Text right before a tag in the address of a link: ``[leave](`` or ``[1]: `` in Markdown, ``<a href="`` in
HTML."""
_SHOWN_LOSSES = 3
"""Losses that an error names."""
_CONTEXT = 100
"""Characters before and after a tag that decide whether it is in an address, inside a line of text, or
alone."""
_LAST_CHARACTER = "\U0010ffff"
"""No id is after a prefix with this character that begins with the prefix."""


@dataclass(frozen=True, slots=True)
class Writer:
    """The person or system that adds or withdraws documents, with its access labels."""

    name: str
    labels: frozenset[str] = frozenset()
    releases: bool = False
    """Whether they work on the stores themselves, on their own machine: nothing that they bring waits for a
    release."""
    sees_all: bool = True
    """False: a document with labels, none of which the writer has, does not exist for them."""


@dataclass(frozen=True, slots=True)
class IdRange:
    """The ids after ``after`` and up to ``until``, by code points. "" and None are no limit."""

    after: str = ""
    until: str | None = None


ALL_IDS = IdRange()


@dataclass(frozen=True, slots=True)
class KnowledgeSource:
    """One source of the tenant file."""

    entry: SourceEntry
    labels: tuple[str, ...]
    """The labels that its documents may have."""
    id_ranges: tuple[IdRange, ...] = (ALL_IDS,)
    """The ranges of its ids among all ids of the tenant, in order (``_id_ranges``): several without a
    namespace."""
    vocabulary: tuple[str, ...] = ()
    """All labels of the tenant."""
    two_people: bool = False
    """Whether a document that more agents could read than before waits for a second person's release."""

    @property
    def id_prefix(self) -> str:
        """The prefix of its documents' tenant-wide ids: the namespace and a colon, or nothing."""
        return self.entry.id_prefix

    @property
    def name(self) -> str:
        return self.entry.name

    def document_id(self, own_id: str) -> str:
        """Return the tenant-wide id of the source's document ``own_id``. Raises DocumentInvalidError."""
        if ID_SEPARATOR in own_id:
            problem = f'contains "{ID_SEPARATOR}", which separates a source from its documents\' ids'
            raise DocumentInvalidError(f'the id "{own_id:.80}" {problem}. Use another character.')
        document_id = self.id_prefix + own_id
        if len(document_id) > LONGEST_ID:
            most = LONGEST_ID - len(self.id_prefix)
            raise DocumentInvalidError(f'the id "{own_id:.40}…" is longer than {most} characters')
        return document_id

    def as_tenant_document(self, item: SourceDocument) -> Document:
        """Return a document under its tenant-wide id, with its effective labels and what says when it is in
        force, without template tags.

        Raises DocumentInvalidError for a label outside the vocabulary, labels elsewhere than the source's
        ``access`` says, a text of tags only, and a file of which too much is missing.
        """
        document = item.document
        self._refuse_incomplete(item)
        properties = {} if document.item is None else document.item.properties
        self._refuse_labels_elsewhere(item.metadata | {name: (text,) for name, text in properties.items()})
        self.check_labels(document.labels)
        path = file_of(item.origin) or ""
        labels = self._labels(document, path=path)
        title, content = document.title, document.content
        if document.media_type != "text/plain":
            title = _TAG.sub(self._text_for_tag, title).strip() or title
            content = _TAG.sub(self._text_for_tag, content)
        if not content.strip():
            raise DocumentInvalidError("there is no text in it")
        in_force = document.in_force or read_in_force(item.metadata, path=path, title=title, content=content)
        return document.model_copy(
            update={
                "document_id": self.document_id(document.document_id),
                "labels": tuple(sorted(set(labels))),
                "title": title,
                "content": content,
                "in_force": in_force,
            }
        )

    def _refuse_incomplete(self, item: SourceDocument) -> None:
        """Raise DocumentInvalidError if more than the source's ``most_lost`` of the file's words is not in
        its text."""
        if item.lost_share <= self.entry.most_lost:
            return
        parts = ", ".join(map(str, item.losses[:_SHOWN_LOSSES]))
        raise DocumentInvalidError(
            f'{item.lost_share:.0%} of its words are not in its text ({parts}), and the source "{self.name}" '
            f"takes {self.entry.most_lost:.0%} at most. Look at the file; then fix it, or raise most_lost"
        )

    def _text_for_tag(self, tag: re.Match[str]) -> str:
        """Return the text that replaces a template tag: in an address the path that it names; inside a line
        its only text, or MISSING if it prints a value.

        ``[leave]({% link hr/leave.md %})`` keeps "/hr/leave.md", ``Ask in {% slack "travel" %}.`` keeps
        "travel", and ``Call {{ site.phone }}.`` has MISSING. A tag alone on its line leaves nothing.
        """
        written, (start, end) = tag[0], tag.span()
        if self.entry.elements and written.startswith("{{"):
            return written
        before = _TAG.sub("", tag.string[max(0, start - _CONTEXT) : start].rpartition("\n")[2])
        after = tag.string[end : end + _CONTEXT].partition("\n")[0]
        if _ADDRESS_BEGUN.search(before):
            path_match = _TAG_OF_PATH.search(written)
            path = path_match["bare"] or path_match["path"] if path_match else ""
            return f"/{path.lstrip('/')}" if path and written.startswith("{%") else path
        if not (before + _TAG.sub("", after)).strip(" \t-*#>|"):
            return ""
        if text_match := _TAG_OF_TEXT.fullmatch(written):
            return text_match[2]
        return MISSING if written.startswith(("{{", "<%=")) and "/" not in written[2:5] else ""

    def _labels(self, document: Document, *, path: str) -> tuple[str, ...]:
        """Return a document's effective labels: its own, or those that ``folders`` gives its ``path`` in the
        source.

        ``access``: "declared" needs own labels, "folder" lets own ones only narrow the folder's. Raises
        DocumentInvalidError.
        """
        declared = document.labels if "labels" in document.model_fields_set else None
        if self.entry.access == "declared" and declared is None:
            raise DocumentInvalidError(
                f'labels: each document of the source "{self.name}" carries its own. '
                "Write labels: [NAME], or labels: [] for a document that every agent may read."
            )
        if self.entry.access != "folder":
            return declared or ()
        folder = folder_of(path, self.entry.folders)
        if folder is None:
            raise DocumentInvalidError(
                f'labels: folders of the source "{self.name}" names no folder of {path or "this document"}; '
                'add it, or "" for all others.'
            )
        given = self.entry.folders[folder]
        if declared is not None and widens(declared, of=given):
            raise DocumentInvalidError(
                f"labels: its folder gives {', '.join(given)}, and a document may only narrow that. Move its "
                "file, or change folders in the tenant file."
            )
        return given if declared is None else declared

    def _refuse_labels_elsewhere(self, metadata: Mapping[str, Sequence[str]]) -> None:
        """Raise DocumentInvalidError for a label among the values of keys that are not read, as in "audience:
        staff": it may have been meant as a restriction."""
        labels = {_folded(label) for label in self.vocabulary}
        for key, values in metadata.items():
            if label := next((value for value in values if _folded(value) in labels), None):
                raise DocumentInvalidError(
                    f'"{key:.60}" is not read, and its value "{label:.60}" is a label. Write '
                    f"labels: [{label}] where labels are read, or another value."
                )

    def check_labels(self, labels: Iterable[str]) -> None:
        """Raise DocumentInvalidError for an unknown label, with the most similar known label."""
        for label in labels:
            if label in self.labels:
                continue
            by_folded = {known.casefold(): known for known in reversed(self.labels)}
            similar = get_close_matches(label.casefold(), list(by_folded), n=1, cutoff=0.6)
            hint = "the tenant file has no labels; add it to labels at its top."
            if self.labels:
                hint = f"there are {', '.join(self.labels)}."
            if similar:
                hint = f'did you mean "{by_folded[similar[0]]}"?'
            problem = f'"{label:.60}" is not a label of the source "{self.name}"'
            raise DocumentInvalidError(f"labels: {problem}; {hint}")

    def may_be_written_by(self, identity: Identity) -> bool:
        """Return whether the source's ``writers`` name the agent or one of its labels; without ``writers``,
        True."""
        agents, labels = self.entry.writers.agents, self.entry.writers.labels
        is_named = identity.agent in agents or not identity.labels.isdisjoint(labels)
        return is_named or not (agents or labels)


@dataclass(frozen=True, slots=True)
class KnowledgeSources:
    """All sources of a tenant's documents, in the order of its file. Sources of kind "live" have no
    documents."""

    all: tuple[KnowledgeSource, ...]

    @classmethod
    def of(cls, tenant: TenantConfig) -> KnowledgeSources:
        entries = [entry for entry in tenant.sources if entry.kind != "live"]
        prefixes = [entry.id_prefix for entry in entries]
        sources: list[KnowledgeSource] = []
        for entry in entries:
            labels = tenant.labels if entry.labels is None else entry.labels
            ranges = _id_ranges(entry.id_prefix, among=prefixes)
            two_people = tenant.needs_two_people
            sources.append(KnowledgeSource(entry, labels, ranges, tenant.labels, two_people))
        return cls(tuple(sources))

    def named(self, name: str | None) -> KnowledgeSource:
        """Return a source by its name; for None the only source, or the one with the empty namespace.

        Raises NotFoundError for an unknown name, SourceNeededError for None if neither of the two exists.
        """
        if name is None:
            return self._unnamed()
        for source in self.all:
            if source.name == name:
                return source
        raise NotFoundError(f'There is no source "{name}"; there are {self._all_names()}.')

    def _unnamed(self) -> KnowledgeSource:
        for source in self.all:
            if not source.id_prefix or len(self.all) == 1:
                return source
        raise SourceNeededError(f"Name the source that the documents belong to: {self._all_names()}.")

    def of_document(self, document_id: str) -> KnowledgeSource | None:
        """Return the source of a tenant-wide id; None if it has no source.

        An id without the prefix of another source belongs to the source with the empty namespace.
        """
        prefix = document_id[: document_id.find(ID_SEPARATOR) + 1]
        by_prefix = {source.id_prefix: source for source in self.all}
        return by_prefix.get(prefix) or by_prefix.get("")

    def of_key(self, key: str) -> tuple[KnowledgeSource, str]:
        """Return the source of a file in the inbox, and the file's name within the source.

        "hr/2026/leave.md" is "2026/leave.md" of the source "hr". A file in no source's folder belongs to
        ``named(None)``, by its whole key. Raises SourceNeededError; DocumentInvalidError for a folder that
        resembles the name of a source.
        """
        name = folder_of(key, [source.name for source in self.all])
        if name is None or key == f"{name}/":
            return self._unnamed(), key
        return self.named(name), key.removeprefix(f"{name}/")

    def writable_by(self, identity: Identity) -> tuple[KnowledgeSource, ...]:
        return tuple(source for source in self.all if source.may_be_written_by(identity))

    def with_source(self, status: DocumentStatus) -> DocumentStatus:
        """Return the status with the name of its source."""
        source = self.of_document(status.document_id)
        return status.model_copy(update={"knowledge_source": source.name if source else ""})

    def ranges_of(self, sources: Sequence[KnowledgeSource]) -> list[IdRange]:
        """Return the ranges of the sources' ids, in order; of all sources one range, with ids that have no
        source."""
        if len(sources) == len(self.all):
            return [ALL_IDS]
        return sorted((ids for source in sources for ids in source.id_ranges), key=attrgetter("after"))

    def _all_names(self) -> str:
        return ", ".join(source.name for source in self.all)


def check_new_id(document_id: str) -> None:
    """Raise DocumentInvalidError for an id that looks like another one: not in NFKC, or with a word in two
    scripts.

    Only ids of new documents are checked; known documents keep theirs.
    """
    composed = unicodedata.normalize("NFKC", document_id)
    if composed != document_id or not document_id.isprintable():
        problem = f'is not in the form NFKC, which is "{composed:.80}"'
        raise DocumentInvalidError(f'the id "{document_id:.80}" {problem}. Write it in that form.')
    check_scripts(document_id, what=f'the id "{document_id:.80}"')


def _folded(text: str) -> str:
    """Return a text without case, width and outer spaces, to find labels that were written loosely."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def widens(labels: Iterable[str], *, of: Iterable[str]) -> bool:
    """Return whether ``labels`` let more agents read than the labels ``of``. No labels let every agent read.

    ["a", "b"] widens ["a"], and [] widens ["a"]; ["a"] does not widen [].
    """
    new, old = set(labels), set(of)
    return bool(old) and (not new or not new <= old)


def _id_ranges(prefix: str, *, among: Iterable[str]) -> tuple[IdRange, ...]:
    """Return the ranges of ids with a prefix; for the empty one, those between all other prefixes ``among``.

    "" among "hr:" and "it:" has the ids up to "hr:", from behind its last id up to "it:", and those behind
    that.
    """
    if prefix:
        return (IdRange(prefix, prefix + _LAST_CHARACTER),)
    others = sorted(filter(None, among))
    starts = ["", *(name + _LAST_CHARACTER for name in others)]
    return tuple(IdRange(start, end) for start, end in zip(starts, [*others, None], strict=True))


class FirstLoads:
    """Reads how far the sources of one tenant are. All methods raise DependencyError.

    A source loads for the first time from its first received document, while none of it answers, until no
    document of that load waits. ``AddDocuments`` decides it once for each load and marks what it receives
    (``DocumentStatus.first_load``): so all waiting documents of a source have the same mark, and one status
    tells. Uploaded files that are not read yet wait as well: each counts as one document.

    ``unread`` is ``Uploads.unread_first``: the number of such files by source. None: nobody can upload, or
    the caller knows the upload's own mark.

    Example::

        loads = await FirstLoads(states).look(sources)
        loads.loading  # (Loading(reason="first_load", source="handbook", live=29, expected=244),)
    """

    def __init__(
        self, states: StoredStates, *, unread: Callable[[], Awaitable[Mapping[str, int]]] | None = None
    ) -> None:
        self._states = states
        self._unread = unread

    async def is_first(self, source: KnowledgeSource) -> bool:
        """Return whether documents that the source receives now belong to its first load."""
        if source.name in await self._unread_first():
            return True
        waiting = await self._any(source, WAITING_STATES)
        return waiting.first_load if waiting else await self._any(source, HELD_STATES) is None

    async def look(self, sources: KnowledgeSources) -> SourceLoads:
        """Return the sources that are loaded, and how far those are that load for the first time."""
        complete, loading = list[str](), list[Loading]()
        unread = await self._unread_first()
        for source in sources.all:
            waiting = await self._any(source, WAITING_STATES)
            if source.name in unread or (waiting is not None and waiting.first_load):
                loading.append(await self._count(source, unread.get(source.name, 0)))
            elif waiting is not None or await self._any(source, HELD_STATES) is not None:
                complete.append(source.name)
        return SourceLoads(frozenset(complete), tuple(loading))

    async def _unread_first(self) -> Mapping[str, int]:
        """Return unread uploaded files of first loads, by source; a source without any is left out."""
        return {} if self._unread is None else await self._unread()

    async def _count(self, source: KnowledgeSource, unread: int) -> Loading:
        """Return how many of the source's documents are live, and how many will be."""
        counts: Counter[DocumentState] = Counter()
        for ids in source.id_ranges:
            counts.update(await self._states.count_by_state(after=ids.after or None, until=ids.until))
        live = sum(counts[state] for state in HELD_STATES)
        waiting = sum(counts[state] for state in WAITING_STATES) + unread
        return Loading(reason="first_load", source=source.name, live=live, expected=live + waiting)

    async def _any(self, source: KnowledgeSource, states: tuple[DocumentState, ...]) -> DocumentStatus | None:
        """Return one document of the source in one of these states; None without any."""
        for ids in source.id_ranges:
            after = ids.after or None
            if found := await self._states.list(states=states, after=after, until=ids.until, limit=1):
                return found[0]
        return None
