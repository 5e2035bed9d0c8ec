"""What a running service counts of a live system on a socket: each call once, by how it ended."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.api.health import ServiceMetrics
from assistant.domain.clock import Deadline, SystemClock
from assistant.live.connected import ConnectedElements
from assistant.live.ports import Caller, LiveReadError
from assistant.live_systems import HttpSystems, SystemAccess
from assistant.settings.deployment import ReachEntry
from tests.attacks.live_scene import (
    CUSTOMER,
    ORDER,
    QUESTION,
    KeptReads,
    Switches,
    connector,
    context,
    identity,
    order,
)
from tests.attacks.live_site import opened
from tests.fakes.scripted_http import Exchange, scripted_http
from tests.integration.api.test_live_data import STEP, element_of

FAILURES_TO_OPEN = 5


class System:
    """An order system that answers as a test says."""

    def __init__(self) -> None:
        self.status = 200
        self.body = order()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.respond(self.status, orjson.dumps(self.body), Content_Type="application/json")


class Observed:
    """The elements of one tenant over that system, as the service's metrics see them."""

    def __init__(self, url: str) -> None:
        clock = SystemClock()
        self.metrics = ServiceMetrics()
        self.observer = self.metrics.live.of_tenant("pharmacy")
        self.calls = HttpSystems({"orders": SystemAccess("orders", url)}, clock=clock)
        self.observer.watch_circuit("orders", lambda: self.calls.has_open_circuit("orders"))
        self.switches = Switches()
        entry = ReachEntry.model_validate({"name": "orders", "port": 443})
        self.elements = ConnectedElements(
            [entry.model_copy(update={"inline": connector()})],
            calls=self.calls,
            switches=self.switches,
            reads=KeptReads(),
            pseudonym=lambda customer: "p",
            clock=clock,
            observer=self.observer,
        )
        self.clock = clock

    async def ask(self, number: int = 1, *, order_id: str = ORDER) -> None:
        caller = Caller(identity(), context(order=(order_id,)), QUESTION, f"a{number}")
        with suppress(LiveReadError):
            await self.elements.fill("orders.status", caller, deadline=Deadline.after(5, clock=self.clock))

    @property
    def outcomes(self) -> dict[str, float]:
        (family,) = [one for one in self.metrics.registry.collect() if one.name == "assistant_live_reads"]
        samples = [one for one in family.samples if one.name.endswith("_total")]
        assert {(one.labels["tenant"], one.labels["system"]) for one in samples} <= {("pharmacy", "orders")}
        return {one.labels["outcome"]: one.value for one in samples}

    async def close(self) -> None:
        await self.elements.close()
        await self.calls.close()

    def circuit_is_open(self) -> bool:
        labels = {"tenant": "pharmacy", "system": "orders"}
        return bool(self.metrics.registry.get_sample_value("assistant_live_circuit_open", labels))


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, {}, "ready"),
        (404, {}, "not_found"),
        (503, {}, "system_unavailable"),
        (200, {"status": "lost"}, "system_invalid"),
        (200, {"customer": {"id": "C-2"}}, "not_allowed"),
        (403, {}, "not_allowed"),
    ],
)
async def test_a_call_is_counted_once_by_how_it_ended(
    status: int, body: dict[str, Any], outcome: str
) -> None:
    system = System()
    async with scripted_http(system) as server:
        scene = Observed(server.url)
        await scene.ask(1)
        assert scene.outcomes == {"ready": 1}
        system.status, system.body = status, order(**body)
        await scene.ask(2)
        assert scene.outcomes == {**Counter(["ready", outcome])}
        await scene.close()


async def test_what_calls_no_system_is_not_counted() -> None:
    """A switched-off system, a foreign id and a missing one say nothing about the system."""
    async with scripted_http(System()) as server:
        scene = Observed(server.url)
        await scene.ask(1)
        await scene.ask(2, order_id="none")
        scene.switches.off.add("orders")
        await scene.ask(3)
        assert (scene.outcomes, len(server.exchanges)) == ({"ready": 1}, 1)
        await scene.close()


async def test_an_open_circuit_is_seen_until_a_trial_is_answered() -> None:
    system = System()
    system.status = 500
    async with scripted_http(system) as server:
        scene = Observed(server.url)
        for number in range(FAILURES_TO_OPEN):
            assert not scene.circuit_is_open()
            await scene.ask(number)
        assert scene.circuit_is_open()
        await scene.ask(FAILURES_TO_OPEN)
        assert len(server.exchanges) == FAILURES_TO_OPEN
        assert scene.outcomes == {"system_unavailable": FAILURES_TO_OPEN + 1}
        await scene.close()


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
