"""The model behind an endpoint, as answers need to know it, and its tokens."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model behind the generation endpoint, as its ``artifact.json`` describes it."""

    model_id: str
    digest: str | None
    """SHA-256 (hex) of the artifact; None when the endpoint's artifact is not known here."""
    template_tokens_per_message: int
    """Tokens that the chat template adds around each message."""
    template_tokens_per_prompt: int
    """Tokens that the chat template adds once, at the start and before the model's turn."""
    writes_answers: bool = False
    """Whether the model may write an answer; otherwise answers are quoted."""
    system_role: bool = True
    """Whether its chat template takes a system message."""
    writes_elements: bool = False
    """Whether its prompt lists the tenant's live elements."""
    reads_tokens: int | None = None
    """Prompt tokens that the model reads in 3 s, as measured; None: its context decides."""
    recorded: str | None = None
    """Where a recording plays in its place: which model was recorded, and when."""
    history_turns: int = 2
    """How many earlier turns of the conversation the model reads."""


class FileTokenCounter:
    """Counts tokens with a ``tokenizer.json``, which is loaded on first use, without truncation and padding.

    Raises ConfigurationError naming the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokenizer: Tokenizer | None = None

    def count(self, text: str) -> int:
        return len(self.load().encode(text, add_special_tokens=False).ids)

    def load(self) -> Tokenizer:
        """Return the tokenizer. Called at start, it reports an invalid file there."""
        if self._tokenizer is not None:
            return self._tokenizer
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self._path))
        except Exception as error:  # noqa: BLE001 - the binding raises nothing narrower
            problem = f"the model's tokenizer cannot be read: {error}"
            raise ConfigurationError(
                f"{self._path}: {problem}; it is part of the model's artifact."
            ) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        with suppress(AttributeError, OSError):  # only glibc has it
            # Reading takes 32 MiB, half of which the allocator would keep for good.
            ctypes.CDLL(None).malloc_trim(0)
        self._tokenizer = tokenizer
        return tokenizer
