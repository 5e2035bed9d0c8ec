"""What a command of this process tells others of its site."""

from __future__ import annotations

import os

from assistant.laptop.layout import Address


def address(**changes: object) -> Address:
    given: dict[str, object] = {
        "service": "http://127.0.0.1:1",
        "issuer": "http://127.0.0.1:2",
        "systems": {},
        "command": "assistant demo",
        "pid": os.getpid(),
        "folder": "/here",
        "started_at": 0.0,
        "options": {},
        "digest": "d",
        "stays": True,
    }
    return Address.model_validate(given | changes)
