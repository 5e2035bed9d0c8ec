"""Owns the characters that stand for something inside a text while it is read: what each means, and its code
point. No text keeps one that it brought: who sets marks removes them first.

| characters | stand for | set and read by |
| --- | --- | --- |
| U+E000 to U+E03F | live elements of a text, by number | ``text.markup`` |
| U+F0000 to U+FFFFD | excerpts in a record, by number, once for each character | ``answer.excerpts`` |
| U+FDD0 to U+FDD2 | a link: address, words, end | ``documents.parsing.text`` |
| U+FDD3 to U+FDD6 | raised, lowered and struck parts of a word of a PDF | ``options.office`` |
| U+FDD7 | a field of a Word file that each page fills | ``options.office`` |

Of control characters only tabs and newlines are text.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Marks:
    """Characters that stand for numbered things."""

    first: int
    """Code point of number 0."""
    last: int

    def __contains__(self, character: str) -> bool:
        return self.first <= ord(character) <= self.last

    def __len__(self) -> int:
        return self.last - self.first + 1

    @property
    def characters(self) -> str:
        """The characters as a pattern's class has them, between brackets."""
        return f"{chr(self.first)}-{chr(self.last)}"

    def mark(self, number: int) -> str:
        """Return the character of a number, below the length."""
        return chr(self.first + number)

    def number(self, character: str) -> int:
        return ord(character) - self.first


ELEMENTS, EXCERPTS = Marks(0xE000, 0xE03F), Marks(0xF0000, 0xFFFFD)
LIKE_ELEMENTS = "\ue000-\ue0ff"
"""Characters that are removed before marks are set."""
PRIVATE_USE = "\ue000-\uf8ff"
"""The first plane's private-use characters, by which symbol fonts of documents show bullets and signs."""
LINK_BEGIN, LINK_WORDS, LINK_END = "\ufdd0", "\ufdd1", "\ufdd2"
"""Before a link's address, after it, and after its words."""
RAISED, LOWERED, STRUCK, RUN_END = "\ufdd3", "\ufdd4", "\ufdd5", "\ufdd6"
PAGE_FIELD = "\ufdd7"
CONTROL = r"\x00-\x08\x0b-\x1f\x7f"
"""Control characters that are no text, as a pattern's class has them."""
