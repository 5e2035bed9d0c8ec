"""Checks the values of one written sentence against the documents, without a model.

A sentence is *withheld* when it has a value (number, dose, date, time, code, proper name) that neither a
document of the prompt nor ``given`` has. It is marked *check* when it cites nothing, or when the cited units
lack one of its values. Every other sentence is *supported* by its values; what it says of them a model checks
(``check_model``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from assistant.domain.answers import Support
from assistant.text.caches import remember_texts
from assistant.text.language import Language
from assistant.text.values import Values

REASONS = ("foreign_value", "no_citation", "value_not_cited")
"""Every code in ``Checked.reasons``; older records have others."""
_TEXTS_KEPT = 1_000
"""Documents, and units that sentences cite, whose values are kept for the next answer."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The result for one sentence."""

    support: Support
    detail: Literal["check", "withheld"] | None = None
    """``check``: it is shown with a mark. ``withheld``: it is not shown."""
    values: tuple[str, ...] = ()
    """Its values that no document has (withheld) or that the cited units lack (check); 20 at most."""
    reasons: tuple[str, ...] = ()
    """Codes of ``REASONS``; empty for a supported sentence."""


class SupportChecker:
    """Checks the sentences of one answer against the documents of its prompt.

    Example: document 1 has one unit, "Claims\\n\\nThe Claims Desk sends the letter within 2 business days."::

        checker = SupportChecker({1: [unit]}, given=["When is it sent?"], language=language("en"))
        checker.check("The Claims Desk sends it within two business days.", [(1, 1)])  # supported
        checker.check("The Claims Desk sends it within 3 business days.", [(1, 1)])  # withheld, ("3 day",)
        checker.check("The Claims Desk sends it within two business days.", [])  # check, ("no_citation",)
    """

    def __init__(
        self, documents: Mapping[int, Sequence[str]], *, given: Sequence[str], language: Language
    ) -> None:
        """``documents``: the units of each document by its number, as the prompt has them; the title and the
        headings of a unit are lines above its text. ``given``: the conversation, what its words mean, and
        counted days."""
        self._documents = documents
        self._given = "\n".join(given)
        self._language = language

    def check(self, sentence: str, citations: Sequence[tuple[int, int | None]]) -> Checked:
        """Return whether documents hold the values of the sentence, and the cited units have them.

        ``sentence``: without citations. ``citations``: (document, unit), unit from 1 and in range; None for
        the whole document.
        """
        plain = sentence.replace("*", "").strip()
        if foreign := self._known.missing(plain, spelled=False):
            return Checked(Support.UNSUPPORTED, "withheld", foreign, ("foreign_value",))
        cited = list(dict.fromkeys(text for place in citations for text in self._cited(*place)))
        if not cited:
            return Checked(Support.UNSUPPORTED, "check", (), ("no_citation",))
        held = Values.joined([self._said, *(_values_of(text, self._language) for text in cited)])
        if absent := held.missing(plain, spelled=True):
            return Checked(Support.UNSUPPORTED, "check", absent, ("value_not_cited",))
        return Checked(Support.SUPPORTED)

    def _cited(self, document: int, unit: int | None) -> Sequence[str]:
        """Return the units that a citation names."""
        units = self._documents[document]
        return units if unit is None else (units[unit - 1],)

    @cached_property
    def _known(self) -> Values:
        """The values of all documents and of what is given."""
        # Each unit repeats the title and its headings: each line is read once.
        lines = (
            dict.fromkeys(line for unit in units for line in unit.split("\n"))
            for units in self._documents.values()
        )
        texts = ("\n".join(line) for line in lines)
        return Values.joined([self._said, *(_values_of(text, self._language) for text in texts)])

    @cached_property
    def _said(self) -> Values:
        """The values of what is given beside documents. They are not cached for later answers, as those of
        documents are: they may be a patient's words."""
        return Values.of(self._given, self._language)


@remember_texts(_TEXTS_KEPT)
def _values_of(text: str, language: Language) -> Values:
    return Values.of(text, language)
