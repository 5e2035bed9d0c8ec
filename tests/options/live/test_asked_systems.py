"""A live system is no source of documents: a question asks it for values alone."""

from __future__ import annotations

from tests.fakes.answering import FakeTenant
from tests.unit.answer.asking_and_reading import Asked, ask

CATALOGUE = {"name": "catalogue", "access": "everyone", "namespace": "", "kind": "catalogue"}
ORDERS = {"name": "orders", "kind": "live", "reach": "orders"}


def states(asked: Asked) -> dict[str, str]:
    return {one.name: one.state for one in asked.done.asked}


def shop() -> FakeTenant:
    """Return a tenant with one source of documents and one live system."""
    tenant = FakeTenant()
    reach = [{"name": "orders", "port": 443, "live": {"connector": "orders.toml"}}]
    config = tenant.config.model_dump() | {"sources": [CATALOGUE, ORDERS], "reach": reach}
    tenant.config = type(tenant.config).model_validate(config)
    return tenant


async def test_the_only_source_of_documents_was_asked_by_the_search_of_all() -> None:
    tenant = shop()
    assert states(await ask(tenant)) == {"catalogue": "answered"}
    assert [search.ids for search in tenant.search.queries] == [None]
    nothing = shop()
    nothing.search.documents.clear()
    assert states(await ask(nothing))["catalogue"] == "empty"
