"""Prompts from versioned files, counted with the served model's own tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.answering.ports import ChatMessage


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is given, and what had to be left out."""

    prompt_id: str
    prompt_hash: str
    """SHA-256 (hex) of the prompt file."""
    messages: tuple[ChatMessage, ...]
    numbers: tuple[int, ...]
    """Numbers of the sources that the model reads."""
    dropped_passages: int
    history_turns: int
    prompt_tokens: int
