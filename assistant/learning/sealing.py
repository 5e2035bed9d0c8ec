"""Encrypts the words of an event so that they are lost with the key of any one of their subjects.

Subjects are the documents that the words may quote, and the patients whose member numbers stood in them.
AES-256-GCM under a key that HKDF-SHA-256 derives from the keys of all subjects, for this one text. The nonce
is derived from the key and the words, so that sealing again gives the same bytes: a group that is moved twice
is one group, and no nonce is ever used with two texts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Collection, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import ValidationError

from assistant.domain.errors import InvalidRequestError
from assistant.domain.feedback import FeedbackEvent, FeedbackText, SealedText
from assistant.learning.ports import KEY_BYTES, ErasureKeys

MOST_SUBJECTS = 100
_NONCE_BYTES = 12
_PURPOSE = "feedback-text/1"


def text_id_of(event: FeedbackEvent) -> str:
    """Return the id of the sealed words of an event."""
    return hashlib.sha256(f"{_PURPOSE}:{event.event_id}".encode()).hexdigest()


def seal(
    words: FeedbackText, event: FeedbackEvent, *, subjects: Collection[str], keys: Mapping[str, bytes]
) -> SealedText | None:
    """Return the sealed words of an event; None where a subject's key is destroyed, or there are over 100."""
    names = tuple(sorted(set(subjects)))
    if not names or len(names) > MOST_SUBJECTS or any(name not in keys for name in names):
        return None
    text_id = text_id_of(event)
    key = _key(text_id, [keys[name] for name in names])
    plain = words.model_dump_json().encode()
    nonce = hmac.new(key, b"nonce:" + plain, hashlib.sha256).digest()[:_NONCE_BYTES]
    sealed = nonce + AESGCM(key).encrypt(nonce, plain, _bound(text_id, names))
    return SealedText(text_id=text_id, at=event.at, subjects=names, sealed=base64.b64encode(sealed).decode())


def unseal(text: SealedText, keys: Mapping[str, bytes]) -> FeedbackText | None:
    """Return the words; None where a subject's key is destroyed. Raises InvalidRequestError for a text that
    was altered or is damaged."""
    if any(name not in keys for name in text.subjects):
        return None
    key = _key(text.text_id, [keys[name] for name in text.subjects])
    try:
        sealed = base64.b64decode(text.sealed, validate=True)
        bound = _bound(text.text_id, text.subjects)
        plain = AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
        return FeedbackText.model_validate_json(plain)
    except (InvalidTag, binascii.Error, ValidationError, ValueError):
        raise InvalidRequestError(
            f"The sealed text {text.text_id} was altered or is damaged. Restore it, or delete it."
        ) from None


async def unseal_all(texts: Collection[SealedText], keys: ErasureKeys) -> dict[str, FeedbackText]:
    """Return the words of the texts that can still be read, by ``text_id``. Raises as ``unseal`` and the
    store of keys."""
    subjects = {name for text in texts for name in text.subjects}
    found = await keys.keys_of(sorted(subjects), create=False)
    opened = {text.text_id: unseal(text, found) for text in texts}
    return {text_id: words for text_id, words in opened.items() if words is not None}


def _key(text_id: str, keys: Collection[bytes]) -> bytes:
    derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"{_PURPOSE}:{text_id}".encode())
    return derived.derive(b"".join(keys))


def _bound(text_id: str, subjects: Collection[str]) -> bytes:
    """Return what is authenticated beside the words: a text cannot be put in another one's place."""
    return "\n".join((text_id, *subjects)).encode()
