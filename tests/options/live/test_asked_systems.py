"""A live system is no source of documents: a question asks it for values alone."""

from __future__ import annotations

from tests.fakes.answering import FakeTenant
from tests.unit.answer.asking_and_reading import ask
from tests.unit.answer.test_search import QUESTION, SHOP, SOURCES, states

ORDERS: dict[str, object] = {"name": "orders", "kind": "live", "reach": "orders"}


def shop() -> FakeTenant:
    """Return a tenant with one source of documents and one live system."""
    tenant = FakeTenant().with_documents(SHOP[0])
    reach = [{"name": "orders", "port": 443, "connector": "orders.toml"}]
    config = tenant.config.model_dump() | {"sources": [SOURCES[0], ORDERS], "reach": reach}
    tenant.config = type(tenant.config).model_validate(config)
    return tenant


async def test_the_only_source_of_documents_was_asked_by_the_search_of_all() -> None:
    tenant = shop()
    assert states(await ask(tenant, QUESTION)) == {"catalogue": "answered", "orders": "not_asked"}
    assert [search.ids for search in tenant.search.queries] == [None]
    nothing = shop()
    nothing.search.documents.clear()
    assert states(await ask(nothing, QUESTION))["catalogue"] == "empty"
