from __future__ import annotations

from pathlib import Path

from joserfc import jwt

from assistant.domain.identity import Role
from assistant.local.issuer.signing_key import load_or_create_signing_key
from assistant.local.issuer.tokens import Grant, issue_token
from tests.fakes.clock import SteppedClock


def test_a_token_says_what_the_grant_says_for_eight_hours(tmp_path: Path) -> None:
    clock = SteppedClock()
    grant = Grant("clinic", "ann", roles=(Role.AGENT, Role.AUDITOR), labels=("hr",))
    token = issue_token(grant, state_dir=tmp_path, issuer="http://issuer", clock=clock)
    read = jwt.decode(token, load_or_create_signing_key(tmp_path), algorithms=["ES256"])
    now = int(clock.now().timestamp())
    assert read.claims == {
        "iss": "http://issuer",
        "aud": "assistant",
        "iat": now,
        "exp": now + 8 * 3600,
        "sub": "ann",
        "tenant": "clinic",
        "roles": ["agent", "auditor"],
        "labels": ["hr"],
    }
