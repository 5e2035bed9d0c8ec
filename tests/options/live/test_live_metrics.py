"""What a running service counts of a live system on a socket: each call once, by how it ended."""

from __future__ import annotations

from pathlib import Path

from tests.attacks.live_scene import (
    CUSTOMER,
    ORDER,
)
from tests.attacks.live_site import opened
from tests.options.live.test_live_data import STEP, element_of


async def test_the_operators_listener_shows_the_reads_of_an_answer(tmp_path: Path) -> None:
    async with opened(tmp_path) as site:
        await site.service.know("wait", STEP)
        for _ in range(2):
            await element_of(site, site.context())
        await element_of(site, site.context(ids={"order": ["5000-0001"]}))
        shown = (await site.service.operated("/metrics")).text.splitlines()
        named = 'system="orders",tenant="clinic"'
        assert f'assistant_live_reads_total{{outcome="ready",{named}}} 2.0' in shown
        assert f'assistant_live_reads_total{{outcome="not_allowed",{named}}} 1.0' in shown
        assert f"assistant_live_read_seconds_count{{{named}}} 3.0" in shown
        assert f"assistant_live_circuit_open{{{named}}} 0.0" in shown
        assert 'assistant_live_circuit_open{system="orders",tenant="pharmacy"} 0.0' in shown
        text = "\n".join(shown)
        assert not [value for value in (ORDER, CUSTOMER, "5000-0001", "ann") if value in text]
