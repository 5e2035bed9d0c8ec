"""Recognises the sentences of the tenant's emergencies in a text for a patient: no finding is about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from assistant.answer.services import TenantServices
from assistant.domain.answers import ReplyCheck
from assistant.tenant.tenant import RedFlagEntry
from assistant.text.language import Language, denied_by, fold, language, word_groups
from assistant.text.values import Values

_FEW = 2
"""A sentence of so few words is not taken for one of an emergency's text: any text may have "Call now"."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W\d_]+)*")
_DENYING = frozenset[str]().union(*word_groups("en_marks").values())
_CLAUSE = re.compile(r"[,.;:\u2013\u2014]")


@dataclass(frozen=True)
class Emergencies:
    """What the tenant file says of emergencies, to recognise their sentences in a text.

    Example: of a flag with the text "Tell them to call 911." and the contact "911", a finding about the
    sentence "Please call 911 right away." does not stop a text; one about "Do not call 911." or "Call 912."
    does.
    """

    flags: Sequence[RedFlagEntry]
    language: Language

    @classmethod
    def of(cls, services: TenantServices) -> Emergencies:
        return cls(services.tenant.red_flags, language(services.tenant.language))

    def excuses(self, finding: ReplyCheck, text: str) -> bool:
        """Return whether a finding is about an emergency's sentence, and not about a name that it lacks."""
        sentence = text[finding.start : finding.end]
        names = {fold(value) for value in finding.values if value.isalpha()}
        is_foreign = bool(names - self._flag_values.words) or finding.kind == "contradicts"
        return self._is_verbatim(sentence) or (self._is_call(sentence) and not is_foreign)

    def _is_call(self, sentence: str) -> bool:
        """Return whether a sentence is one of a flag, or tells to call one of the numbers, with no value that
        no flag has. "Do not call 911" tells the opposite: its clause has an odd number of negations."""
        if self._is_verbatim(sentence):
            return True
        values, known = Values.of(sentence, self.language), self._flag_values
        numbers = values.quantities.bare | values.moments | values.quantities.codes
        known_numbers = known.quantities.bare | known.moments | known.quantities.codes
        to_call = sorted(numbers & self._to_call)
        if not to_call or numbers - known_numbers or values.quantities.measures - known.quantities.measures:
            return False
        return self._is_told(to_call[0], fold(sentence))

    def _is_verbatim(self, sentence: str) -> bool:
        """Return whether a sentence of more than a few words stands in a flag's text and contact, and says
        the same there: "Leave them alone." does not stand in "Do not leave them alone."."""
        plain = f" {_plain(sentence)}"
        wholes = [f" {_plain(f'{flag.text} {flag.call}')}" for flag in self.flags]
        return len(plain.split()) > _FEW and any(
            plain in whole and self._is_told(plain, whole) for whole in wholes
        )

    def _is_told(self, words: str, text: str) -> bool:
        """Return whether a text tells these words of it, and not the opposite."""
        clause = _CLAUSE.split(text.partition(words)[0])[-1]
        return self._negations(f"{clause} {words}") % 2 == self._negations(words) % 2

    def _negations(self, text: str) -> int:
        """Return how many words of a text deny: "not", "don't", "unless", "unnecessary"."""
        return sum(
            word.endswith("n't") or word in _DENYING or denied_by(word, self.language) is not None
            for word in _WORD.findall(fold(text))
        )

    @cached_property
    def _flag_values(self) -> Values:
        """The values of all flags' texts and contacts."""
        texts = ["", *(part for flag in self.flags for part in (flag.text, flag.call))]
        return Values.joined([Values.of(text, self.language) for text in texts])

    @cached_property
    def _to_call(self) -> frozenset[str]:
        """The numbers in ``call`` of all flags."""
        values = [Values.of(flag.call, self.language) for flag in self.flags]
        return frozenset[str]().union(*(value.quantities.bare | value.moments for value in values))


def _plain(text: str) -> str:
    return " ".join(fold(text).split()).rstrip(".! ")
