"""Takes the model's ``[n]`` markers, and echoes of the prompt's delimiters, out of the text while it streams.

No marker stays in the text, whether it names a source or not: what an answer cites is decided by attribution,
outside the model, and shown beside each sentence; the text is what an agent copies into a reply. Markers that
name no source are kept apart, for the record.
"""

from __future__ import annotations

import re

_NUMBERS = r"\d{1,3}(?:\s?[,;\u2013-]\s?\d{1,3}){0,4}"
_MARKER = re.compile(rf"[ \t]{{0,8}}(?:\[\s?{_NUMBERS}\s?\]|</?passage>)")
_POSSIBLE_START = re.compile(
    rf"[ \t]{{1,8}}\Z|[ \t]{{0,8}}\[(?:\s?|\s?{_NUMBERS}\s?|\s?{_NUMBERS}\s?[,;\u2013-]\s?)\Z"
    r"|[ \t]{0,8}</?(?:p(?:a(?:s(?:s(?:a(?:g(?:e)?)?)?)?)?)?)?\Z"
)
_OPENING = re.compile(r"[\[<]")
_NUMBER = re.compile(r"\d+")


class MarkerFilter:
    """One answer's text, part by part. What comes out does not depend on where the parts were cut.

    White space before a marker goes with it, and so does what begins the text. What can begin a marker is
    held back until it is one or cannot be: at most 46 characters.
    """

    __slots__ = ("_begun", "_held", "_sources", "removed")

    def __init__(self, *, sources: int) -> None:
        """``sources``: the numbers 1 to ``sources`` name a source."""
        self._sources = sources
        self._held = ""
        self._begun = False
        self.removed: list[str] = []
        """Markers that name no source, in order."""

    def push(self, text: str) -> str:
        """Take the next part and return the text that is certain, which may be empty."""
        if self._begun and not self._held and not _OPENING.search(text) and text[-1:] not in (" ", "\t"):
            return text
        whole = self._held + text
        start = _POSSIBLE_START.search(whole)
        certain = whole[: start.start()] if start else whole
        self._held = whole[len(certain) :]
        return self._clean(certain)

    def flush(self) -> str:
        """Return what was held back, at the end of the text."""
        rest, self._held = self._held, ""
        return self._clean(rest).rstrip()

    def _clean(self, text: str) -> str:
        if _OPENING.search(text):
            text = _MARKER.sub(self._remove, text)
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text

    def _remove(self, marker: re.Match[str]) -> str:
        if not all(1 <= int(number) <= self._sources for number in _NUMBER.findall(marker[0])):
            self.removed.append(marker[0].strip())
        return ""
