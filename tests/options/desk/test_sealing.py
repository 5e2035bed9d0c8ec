"""Sealed words are read with all their subjects' keys, and with nothing less."""

from __future__ import annotations

import base64

import pytest

from assistant.domain.errors import InvalidRequestError
from assistant.options.desk.events import FeedbackText, SealedText
from assistant.options.desk.feedback_store import MOST_SUBJECTS, seal, unseal
from tests.options.desk import samples

KEYS = {"document:refill": b"d" * 32, "patient:ab": b"p" * 32, "document:other": b"o" * 32}
SUBJECTS = ("patient:ab", "document:refill")
WORDS = FeedbackText(question="When may M12 refill?", shown="On day 24.")


def sealed(words: FeedbackText = WORDS, *, number: int = 1) -> SealedText:
    text = seal(words, samples.event(number), subjects=SUBJECTS, keys=KEYS)
    assert text is not None
    return text


def test_sealed_words_are_unreadable_without_keys_and_come_back_with_them() -> None:
    text = sealed()
    assert text.subjects == ("document:refill", "patient:ab")
    assert b"refill?" not in base64.b64decode(text.sealed)
    assert unseal(text, KEYS) == WORDS


@pytest.mark.parametrize("lost", SUBJECTS)
def test_the_loss_of_any_one_key_makes_them_unreadable(lost: str) -> None:
    assert unseal(sealed(), {name: key for name, key in KEYS.items() if name != lost}) is None


def test_another_key_of_the_same_subject_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        unseal(sealed(), KEYS | {"patient:ab": b"x" * 32})


def test_sealing_again_gives_the_same_bytes_and_no_nonce_serves_two_texts() -> None:
    assert sealed() == sealed()
    other = sealed(WORDS.model_copy(update={"shown": "On day 25."}))
    assert base64.b64decode(other.sealed)[:12] != base64.b64decode(sealed().sealed)[:12]
    assert base64.b64decode(sealed(number=2).sealed)[:12] != base64.b64decode(sealed().sealed)[:12]


def test_words_of_a_subject_whose_key_is_gone_are_not_sealed() -> None:
    assert seal(WORDS, samples.event(), subjects=("document:gone",), keys=KEYS) is None
    assert seal(WORDS, samples.event(), subjects=(), keys=KEYS) is None


def test_words_about_too_many_are_not_sealed() -> None:
    keys = {f"document:{n}": b"k" * 32 for n in range(MOST_SUBJECTS + 1)}
    assert seal(WORDS, samples.event(), subjects=keys, keys=keys) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"subjects": ("document:other", "document:refill", "patient:ab")},
        {"text_id": "0" * 64},
        {"sealed": base64.b64encode(b"short").decode()},
        {"sealed": "no base64"},
    ],
)
def test_an_altered_text_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        unseal(sealed().model_copy(update=changed), KEYS)
