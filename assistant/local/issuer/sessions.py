"""Who is signed in at the issuer: a reloaded console then gets a token without a page (``prompt=none``)."""

from __future__ import annotations

import secrets
from collections import OrderedDict

from assistant.domain.clock import Clock
from assistant.local.issuer.tokens import TOKEN_LIFETIME_S, Grant

SESSION_COOKIE = "assistant_issuer_session"
_MAX_SESSIONS = 1_000


class Sessions:
    """Kept in memory: a restart of the issuer asks everybody to sign in again. At most 1,000."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, tuple[Grant, float]] = OrderedDict()

    def begin(self, grant: Grant) -> str:
        """Return the secret that stands for the session in a cookie."""
        secret = secrets.token_urlsafe(32)
        self._sessions[secret] = (grant, self._clock.monotonic_s() + TOKEN_LIFETIME_S)
        while len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return secret

    def find(self, secret: str | None) -> Grant | None:
        grant, expires_s = self._sessions.get(secret or "", (None, 0.0))
        return grant if expires_s > self._clock.monotonic_s() else None

    def end(self, secret: str | None) -> None:
        self._sessions.pop(secret or "", None)
