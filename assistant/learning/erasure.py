"""Makes a patient's words in the feedback store unreadable for good."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.learning.ports import ErasureKeys, FeedbackStore
from assistant.learning.signals import Signals


@dataclass(frozen=True, slots=True)
class Erased:
    """The receipt of an erasure. It does not have the member number."""

    subject: str
    """``patient:`` and the keyed hash of the member number."""
    had_key: bool
    """Whether there was a key; else nobody's words were sealed with it, or it is destroyed already."""
    texts: tuple[str, ...]
    """Ids of the sealed texts that nobody can read any more."""


class ErasePatient:
    """Destroys the key of one patient's sealed texts. A repeat changes nothing and lists the same texts."""

    def __init__(self, *, signals: Signals, keys: ErasureKeys, feedback: FeedbackStore) -> None:
        self._signals = signals
        self._keys = keys
        self._feedback = feedback

    async def __call__(self, member_number: str) -> Erased:
        """Erase, and return the receipt. Raises DependencyError; then the key may be destroyed already."""
        subject = self._signals.patient(member_number)
        had_key = await self._keys.destroy(subject)
        return Erased(subject, had_key, tuple(await self._feedback.texts_about(subject)))
