"""The sources of one tenant: which documents belong to a source, who may write them, which labels they may
have.

A document's id begins with its source's namespace and a colon. The ids within a source contain no colon, so a
source cannot name the document of another. One source may have the empty namespace: its ids have no prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from assistant.domain.documents import ID_SEPARATOR, Document, DocumentStatus
from assistant.domain.errors import DocumentInvalidError, NotFoundError, SourceNeededError
from assistant.domain.identity import Identity
from assistant.settings.tenant import SourceEntry, TenantConfig

LONGEST_ID = 256
_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Writer:
    """The person or system that adds or withdraws documents, with its access labels."""

    name: str
    labels: frozenset[str] = frozenset()


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
    """The ranges of its ids among all ids of the tenant, in order."""

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

    def as_tenant_document(self, document: Document) -> Document:
        """Return the document under its tenant-wide id, with its effective labels.

        A document without labels gets the source's default labels; an empty list lets every agent read it.
        Raises DocumentInvalidError for a label outside the vocabulary.
        """
        has_labels = "labels" in document.model_fields_set
        labels = document.labels if has_labels else self.entry.default_labels
        self.check_labels(labels)
        document_id = self.document_id(document.document_id)
        return document.model_copy(update={"document_id": document_id, "labels": tuple(sorted(set(labels)))})

    def check_labels(self, labels: Iterable[str]) -> None:
        """Raise DocumentInvalidError for an unknown label, with the most similar known label."""
        for label in labels:
            if label in self.labels:
                continue
            by_folded = {known.casefold(): known for known in reversed(self.labels)}
            near = get_close_matches(label.casefold(), list(by_folded), n=1, cutoff=0.6)
            hint = "the tenant file has no labels; add it to labels at its top."
            if self.labels:
                hint = f"there are {', '.join(self.labels)}."
            if near:
                hint = f'did you mean "{by_folded[near[0]]}"?'
            problem = f'"{label:.60}" is not a label of the source "{self.name}"'
            raise DocumentInvalidError(f"labels: {problem}; {hint}")

    def may_be_written_by(self, identity: Identity) -> bool:
        agents, labels = self.entry.writers.agents, self.entry.writers.labels
        is_named = identity.agent in agents or not identity.labels.isdisjoint(labels)
        return is_named or not (agents or labels)


@dataclass(frozen=True, slots=True)
class KnowledgeSources:
    """All sources of a tenant's documents, in the order of its file. A live system has none."""

    all: tuple[KnowledgeSource, ...]

    @classmethod
    def of(cls, tenant: TenantConfig) -> KnowledgeSources:
        entries = [entry for entry in tenant.sources if entry.kind != "live"]
        prefixes = [entry.id_prefix for entry in entries]
        sources: list[KnowledgeSource] = []
        for entry in entries:
            labels = tenant.labels if entry.labels is None else entry.labels
            sources.append(KnowledgeSource(entry, labels, _id_ranges(entry.id_prefix, among=prefixes)))
        return cls(tuple(sources))

    def named(self, name: str | None) -> KnowledgeSource:
        """Return a source by its name; without one the only source, or the one with the empty namespace.

        Raises NotFoundError, SourceNeededError.
        """
        if name is None:
            return self._unnamed()
        for source in self.all:
            if source.name == name:
                return source
        raise NotFoundError(f'There is no source "{name}"; there are {self._names()}.')

    def _unnamed(self) -> KnowledgeSource:
        for source in self.all:
            if not source.id_prefix or len(self.all) == 1:
                return source
        raise SourceNeededError(f"Name the source that the documents belong to: {self._names()}.")

    def of_document(self, document_id: str) -> KnowledgeSource | None:
        """Return the source of a tenant-wide id; None if it has no source.

        An id without the prefix of another source belongs to the source with the empty namespace.
        """
        prefix = document_id[: document_id.find(ID_SEPARATOR) + 1]
        by_prefix = {source.id_prefix: source for source in self.all}
        return by_prefix.get(prefix) or by_prefix.get("")

    def of_key(self, key: str) -> tuple[KnowledgeSource, str]:
        """Return the source of a file in the inbox, and the file's name within the source.

        The first folder names the source. Any other file belongs to the unnamed source, by its whole key.
        Raises SourceNeededError.
        """
        folder, slash, name = key.partition("/")
        for source in self.all:
            if slash and name and source.name == folder:
                return source, name
        return self._unnamed(), key

    def writable_by(self, identity: Identity) -> tuple[KnowledgeSource, ...]:
        return tuple(source for source in self.all if source.may_be_written_by(identity))

    def with_source(self, status: DocumentStatus) -> DocumentStatus:
        """Return the status with the name of its source."""
        source = self.of_document(status.document_id)
        return status.model_copy(update={"knowledge_source": source.name if source else ""})

    def ranges_of(self, sources: Sequence[KnowledgeSource]) -> list[IdRange]:
        """Return the ranges of the sources' ids among all ids, in order."""
        if len(sources) == len(self.all):
            return [ALL_IDS]
        return sorted(
            (id_range for source in sources for id_range in source.id_ranges), key=lambda one: one.after
        )

    def _names(self) -> str:
        return ", ".join(source.name for source in self.all)


def widens(labels: Iterable[str], *, of: Iterable[str]) -> bool:
    """Return whether ``labels`` let more agents read than the labels ``of`` do. No labels let every agent."""
    new, old = set(labels), set(of)
    return bool(old) and (not new or not new <= old)


def _id_ranges(prefix: str, *, among: Iterable[str]) -> tuple[IdRange, ...]:
    if prefix:
        return (IdRange(prefix, prefix + _LAST_CHARACTER),)
    others = sorted(one for one in among if one)
    begins = ["", *(other + _LAST_CHARACTER for other in others)]
    return tuple(IdRange(begin, end) for begin, end in zip(begins, [*others, None], strict=True))
