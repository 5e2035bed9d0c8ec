"""Many documents brought at once over HTTP: each is taken, by stores whose threads keep what is theirs."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from assistant.domain.documents import DocumentState
from tests.fakes.running_service import RunningService

POSTS = 10_000 if os.environ.get("EXAMPLES") == "new" else 600
"""``make check-full`` sends them all."""
AT_ONCE = 50


async def test_of_many_concurrent_posts_none_fails(service: RunningService) -> None:
    owner = service.headers("olga", roles=["knowledge_owner"])
    numbers = iter(range(POSTS))
    statuses: Counter[int] = Counter()

    async def post() -> None:
        for number in numbers:
            body = {
                "document_id": f"d{number}",
                "title": "New",
                "content": "Text.",
                "media_type": "text/plain",
            }
            response = await service.client.post("/v1/documents", json=body, headers=owner)
            statuses[response.status_code] += 1

    await asyncio.gather(*(post() for _ in range(AT_ONCE)))
    assert statuses == {202: POSTS}
    states = service.tenants["clinic"].knowledge.states
    counts = await states.count_by_state()
    assert counts[DocumentState.RECEIVED] == POSTS
