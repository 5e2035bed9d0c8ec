"""Text that arrives in pieces and gets a mark behind each sentence.

A sentence's event comes right after the token that made its end certain, which already holds the first
letter of what follows. So what stands behind a possible end is held back until the next event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_POSSIBLE_END = re.compile(r"[.!?…。！？][.!?…\"'”’»)\]*_]*|(?=\n)")  # noqa: RUF001 - as the service cuts


@dataclass(slots=True)
class MarkedText:
    """What of an answer's text may be shown."""

    text: str = ""
    _shown: int = 0
    _decided: int = 0
    """Before it every possible end is known to be one, or none."""

    def take(self, piece: str) -> str:
        """Add a piece and return what may be shown now."""
        before = len(self.text)
        self.text += piece
        at = self._decided
        while found := _POSSIBLE_END.search(self.text, at):
            if not self.text[found.end() : before].strip():
                self._decided = found.start()
                return self._show(found.end())
            at = found.end() + 1  # a piece came since, and no sentence: it was no end
        self._decided = before
        return self._show(len(self.text))

    def take_sentence(self, end: int) -> str:
        """Return what may be shown before the mark of the sentence that ends at ``end``."""
        self._decided = end
        return self._show(end)

    def take_rest(self) -> str:
        return self._show(len(self.text))

    def _show(self, end: int) -> str:
        shown = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return shown
