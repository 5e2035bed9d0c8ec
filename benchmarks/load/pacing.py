"""How long the stand-ins wait. One object that all of them read, changed between runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.load.questions import ANSWER_TOKENS

EMBEDDING_S = 0.015
SEARCH_S = 0.010
FIRST_TOKEN_S = 0.150
TOKEN_S = 0.020
STORE_S = 0.005
SEARCHES = 3
"""Calls of the index for a question: the hybrid query, the titles' cosines, the documents to quote."""
ADDED_TO_MS = (EMBEDDING_S + SEARCHES * SEARCH_S + FIRST_TOKEN_S) * 1000
"""What the stand-ins take until the first token; all above it is added."""


@dataclass(slots=True)
class Pace:
    delayed: bool = True
    tokens: int = ANSWER_TOKENS
    embedding_s: float = EMBEDDING_S
    search_s: float = SEARCH_S
    first_token_s: float = FIRST_TOKEN_S
    token_s: float = TOKEN_S
    store_s: float = STORE_S

    def later(self, delay_s: float, send: Callable[[bytes], object], data: bytes) -> None:
        """Send after the delay, at once when there are no delays."""
        if self.delayed:
            asyncio.get_running_loop().call_later(delay_s, send, data)
        else:
            send(data)
