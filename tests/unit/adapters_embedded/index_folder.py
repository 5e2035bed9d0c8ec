"""Looks into an embedded index's folder from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tantivy

from assistant.adapters.embedded.index import EmbeddedPassageIndex, EmbeddedPassageSearch
from assistant.adapters.embedded.passage_rows import IndexModel
from assistant.domain.documents import Passage
from assistant.domain.retrieval import PassageQuery, Retrieved
from tests.contracts.samples import soon

MODEL = IndexModel(name="model-of-four", dimensions=4)


class IndexFolder:
    """An index below ``folder``, a writer and a reader, closed by hand: tests open it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = EmbeddedPassageIndex(folder, model=MODEL)
        self.search_side = EmbeddedPassageSearch(folder, model=MODEL)

    async def put(self, *entries: tuple[Passage, Sequence[float]]) -> None:
        documents: dict[str, list[tuple[Passage, Sequence[float]]]] = {}
        for entry in entries:
            documents.setdefault(entry[0].document_id, []).append(entry)
        await self.index.replace_documents(documents)

    async def search(self, query: PassageQuery) -> Retrieved:
        return await self.search_side.search(query, deadline=soon())

    async def close(self) -> None:
        await self.index.close()
        await self.search_side.close()

    def lexical_folders(self) -> list[Path]:
        return sorted(self.folder.rglob("lexical-*"))

    def posted(self, term: str) -> int:
        """Return how many passages tantivy's files post the term for, deleted ones included.

        Its dictionaries are compressed, so that looking for bytes would prove nothing.
        """
        indexes = [tantivy.Index.open(str(folder)) for folder in self.lexical_folders()]
        return sum(index.searcher().doc_freq("body", term) for index in indexes)

    def files_with(self, *words: str) -> list[str]:
        """Return the files in which one of the words stands, in whatever case."""
        wanted = [word.lower().encode() for word in words]
        return [
            path.name
            for path in self.folder.rglob("*")
            if path.is_file() and any(word in path.read_bytes().lower() for word in wanted)
        ]
