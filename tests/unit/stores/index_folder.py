"""Looks into an embedded index's folder from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tantivy

from assistant.domain.documents import Passage, PassageQuery, Retrieved
from assistant.stores.index.embedded import EmbeddedPassageIndex, EmbeddedPassageSearch
from assistant.stores.index.embedded_files import IndexModel
from tests.contracts.samples import documents_of, soon

MODEL = IndexModel(name="model-of-four", dimensions=4)


class IndexFolder:
    """An index below ``folder``, a writer and a reader, closed by hand: tests open it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = EmbeddedPassageIndex(folder, model=MODEL)
        self.search_side = EmbeddedPassageSearch(folder, model=MODEL)

    async def put(self, *entries: tuple[Passage, Sequence[float]]) -> None:
        await self.index.replace_documents(documents_of(*entries))

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
        return self._posted("passages", "body", term)

    def posted_titles(self, term: str) -> int:
        """Return the same of titles and questions."""
        return self._posted("titles", "asked", term)

    def posted_texts(self, term: str) -> int:
        """Return the same of whole texts."""
        return self._posted("texts", "text", term)

    def _posted(self, leg: str, field: str, term: str) -> int:
        indexes = [tantivy.Index.open(str(folder / leg)) for folder in self.lexical_folders()]
        return sum(index.searcher().doc_freq(field, term) for index in indexes)

    def files_with(self, *words: str) -> list[str]:
        """Return the files in which one of the words stands, in whatever case."""
        return self.files_holding(*(word.encode() for word in words))

    def files_holding(self, *contents: bytes) -> list[str]:
        """Return the files in which one of the contents stands; letters in whatever case."""
        wanted = [content.lower() for content in contents]
        return [
            path.name
            for path in self.folder.rglob("*")
            if path.is_file() and any(content in path.read_bytes().lower() for content in wanted)
        ]
