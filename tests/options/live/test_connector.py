"""Connector files: what they say, and what is refused, with file, line and key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from assistant.documents.sources import KnowledgeSources
from assistant.domain.errors import ConfigurationError
from assistant.options.live.connector import load_connector, matches_whole
from assistant.options.live.openapi import response_validator
from assistant.options.live.section import LiveReach, called, systems_of
from assistant.tenant.deployment import ReachEntry
from assistant.tenant.tenant import SourceEntry, TenantConfig, load_tenant
from tests.options.live.live_scene import of_page, order, write_connector
from tests.stage.growth import MOST_GROWTH, growth

TENANT = 'schema_version = 1\nname = "north"\ndisplay_name = "North"\n'


def example() -> tuple[str, str]:
    """Return the tenant file's part and the connector of the page."""
    return of_page()[:2]


def written(folder: Path, text: str, document: Any = None) -> Path:
    openapi = None if document is None else json.dumps(document)
    return write_connector(folder / "connectors", text, openapi)


def test_the_example_of_the_page_is_a_valid_connector(tmp_path: Path) -> None:
    part, connector = example()
    written(tmp_path, connector)
    (tmp_path / "north.toml").write_text(TENANT + part)
    tenant = load_tenant(tmp_path / "north.toml")
    (system,) = systems_of(tenant)
    assert [element.name for element in system.connector.elements] == ["status", "refill", "items", "track"]
    assert system.connector.operation("get_order").placeholders == ("order_id",)
    assert tenant.reach[0].secret_name == "state:reach-orders"


@pytest.mark.parametrize("whose", ["context", "agent"])
def test_a_connector_written_into_the_entry_must_prove_whose_data_it_reads(
    tmp_path: Path, whose: str
) -> None:
    part, connector = example()
    written(tmp_path, connector)
    (tmp_path / "north.toml").write_text(TENANT + part)
    entry = called(load_tenant(tmp_path / "north.toml").reach[0], secret=None)
    entry["live"]["whose"] = whose
    operation = entry["live"]["inline"]["operations"][0]
    assert LiveReach.of(ReachEntry.model_validate(entry)) is not None
    for result in operation["results"]:
        result.pop("same_as_context", None)
    operation["parameters"][0] = dict(operation["parameters"][0]) | {"context": None}
    if whose == "agent":
        assert ReachEntry.model_validate(entry).is_live
    else:
        with pytest.raises(ValidationError, match=r'operation "get_order" is personal'):
            ReachEntry.model_validate(entry)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('words = "order number"', "", r"parameters.0.words is needed"),
        ("personal = true", "", r"personal is needed"),
        ("personal = true", "personal = true\ncache_s = 5", r"not cached"),
        ('same_as = "order_id"', 'same_as = "other"', r"none of order_id"),
        ('words = "order', 'pattern = "("\nwords = "order', r"not a regular expression"),
        ('openapi = "orders.openapi.json"', "", r"openapi is needed: .*Write openapi"),
        ("personal = true", 'personal = true\npath = "/x"', r"path is read from .*Write operation_id"),
        ('format = "date"', 'type = "date"', r'results.3.type was removed in 0.3.0.*format = "date"'),
        ("items[*].name", "items.*.name", r'write path = "items\[\*\].name"'),
        ('links = ["https://track.example.com/parcels/"]', "", r"a link needs links"),
        ('"https://track.example.com/parcels/"', '"javascript:alert(1)//"', r"links.0"),
        ('kind = "status"', 'kind = "button"', r"elements.0.kind"),
        ('fields = ["item_count"]', 'fields = ["status"]', r"are for tables"),
        ('fields = ["status"]\nlink', 'fields = ["customer"]\nlink', r"shown = false"),
        ('row_title = "item_name"', "", r"needs row_title"),
        ('link = "tracking"', 'link = "status"', r'link names a result with format = "uri"'),
        ('time_zone = "America/New_York"', 'time_zone = "Mars/Base"', r"no IANA time zone"),
        (
            "tones = { shipped",
            "tones = { shiped",
            r'tones has "shiped", which is none of its values: processing',
        ),
        ('source = "orders"', 'source = "orders"\nmethod = "POST"', r"unknown key method; allowed here"),
    ],
)
def test_a_wrong_connector_is_refused_with_its_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = example()[1]
    assert old in text
    path = written(tmp_path, text.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=said) as refused:
        load_connector(path)
    assert str(path) in refused.value.message
    assert "Value error" not in refused.value.message
    assert len(refused.value.message) < 600  # not the whole file again


SLOW = {
    "overlapping alternatives": lambda many: "(a|ab?)" * many + "b",
    "optional letters": lambda many: "a?" * many + "b",
    "optional counts": lambda many: "a{0,64}" * many + "b",
}


def growth_of_matching(matches: Callable[[str, str], object], name: str) -> float:
    def work(word: str) -> None:
        for _ in range(10):
            assert not matches(SLOW[name](len(word)), f"{word}c")

    return growth(work, lambda size: "a" * size, longest=16)


@pytest.mark.parametrize("name", SLOW)
def test_a_pattern_that_an_engine_could_try_in_many_ways_is_matched_in_linear_time(name: str) -> None:
    assert growth_of_matching(matches_whole, name) <= MOST_GROWTH


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        (r"\d{4}-\d{4}", ["4471-2208"], ["4471-2208\n", "\u0661\u0662\u0663\u0664-2208", "x4471-2208"]),
        (r"[\d-]{3}", ["1-2"], ["\u0661-1", "1-2-"]),
        (r"(RX|OR)-\w{1,3}", ["RX-a_1", "OR-1"], ["RX-\u00e9", "RX"]),
        (r"a|b", ["a", "b"], ["ab", "a\nb"]),
        (r"\S\D", ["ab"], [" a", "a1"]),
        (r"a{1}[.^]\.", ["a^.", "a.."], ["ab."]),
    ],
)
def test_a_pattern_matches_whole_values_of_ascii(pattern: str, fits: list[str], others: list[str]) -> None:
    assert [text for text in (*fits, *others) if matches_whole(pattern, text)] == fits


@pytest.mark.parametrize("pattern", ["a)|(b", "[[a]", r"\Z", "a{,3}", "(?x)a #"])
def test_a_pattern_that_is_none_of_rust_s_engine_is_refused(tmp_path: Path, pattern: str) -> None:
    text = example()[1].replace('words = "order', f"pattern = '{pattern}'\nwords = \"order")
    with pytest.raises(ConfigurationError, match=r"parameters.0.pattern"):
        load_connector(written(tmp_path, text))


def test_personal_data_of_a_result_without_proof_of_whose_is_refused(tmp_path: Path) -> None:
    text = re.sub(r"same_as(_context)? = .*\n", "", example()[1])
    with pytest.raises(ConfigurationError, match="another person's data"):
        load_connector(written(tmp_path, text))


def test_a_personal_operation_needs_an_id_of_the_context_unless_the_system_decides(tmp_path: Path) -> None:
    part, connector = example()
    written(tmp_path, re.sub(r"^context = .*\n", "", connector, flags=re.MULTILINE))
    tenant = tmp_path / "north.toml"
    tenant.write_text(TENANT + part.replace('whose = "context"', 'whose = "agent"'))
    assert systems_of(load_tenant(tenant))
    tenant.write_text(TENANT + part)
    with pytest.raises(ConfigurationError, match=r"orders.toml: line \d+: operation .*none of its required"):
        load_tenant(tenant)


# --- whose data -------------------------------------------------------------------------------------------
CUSTOMER_PARAMETER = """
[[operations.parameters]]
name = "customer_id"
context = "customer"
question = false
words = "customer number"
"""
ONLY_NAMED = """schema_version = 1
source = "orders"
openapi = "orders.openapi.json"
[[operations]]
name = "get_order"
operation_id = "getOrder"
personal = true
CUSTOMER
[[operations.parameters]]
name = "order_id"
pattern = '\\d{4}-\\d{4}'
words = "order number"
RESULTS
[[operations.results]]
name = "status"
[[elements]]
name = "status"
kind = "status"
title = "Status"
operation = "get_order"
fields = ["status"]
""".replace("CUSTOMER", CUSTOMER_PARAMETER)


def result(name: str, said: str) -> str:
    return f'[[operations.results]]\nname = "{name}"\nshown = false\n{said}\n'


ID = result("id", 'same_as = "order_id"')
OWNER = result("owner", 'same_as_context = "customer"')
ECHO = result("customer_id", 'same_as = "customer_id"')


ANY = {"200": {"content": {"application/json": {"schema": {}}}}}
CUSTOMERS = "/customers/{customer_id}/orders"
DESCRIBED = {
    "openapi": "3.1.0",
    "paths": {
        path: {
            "parameters": [{"name": name, "in": "path"} for name in re.findall(r"\{(\w+)\}", path)],
            "get": {"operationId": operation_id, "responses": ANY},
        }
        for operation_id, path in (("getOrder", f"{CUSTOMERS}/{{order_id}}"), ("listOrders", CUSTOMERS))
    },
}


def whose_of(folder: Path, text: str, whose: str = "context") -> None:
    written(folder, text, DESCRIBED)
    part = example()[0].replace('whose = "context"', f'whose = "{whose}"')
    (folder / "north.toml").write_text(TENANT + part)
    load_tenant(folder / "north.toml")


@pytest.mark.parametrize("results", [ID + OWNER, ID + ECHO])
def test_an_order_of_the_question_is_read_where_the_context_proves_its_customer(
    tmp_path: Path, results: str
) -> None:
    whose_of(tmp_path, ONLY_NAMED.replace("RESULTS", results))


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (ID, "the context does not decide it: personal = true needs a result"),
        (OWNER, 'its parameter "order_id" comes from the question alone'),
    ],
)
def test_an_id_that_only_the_question_names_proves_nothing(tmp_path: Path, results: str, said: str) -> None:
    text = ONLY_NAMED.replace("RESULTS", results)
    whose_of(tmp_path, text, "agent")
    with pytest.raises(ConfigurationError, match=said) as refused:
        whose_of(tmp_path, text)
    assert "orders.toml: line 4: " in refused.value.message


LISTED = """schema_version = 1
source = "orders"
openapi = "orders.openapi.json"
[[operations]]
name = "list_orders"
operation_id = "listOrders"
personal = true
CUSTOMER
RESULTS
[[operations.results]]
name = "number"
path = "orders[*].number"
[[elements]]
name = "all"
kind = "table"
title = "Orders"
operation = "list_orders"
row_title = "number"
fields = ["number"]
""".replace("CUSTOMER", CUSTOMER_PARAMETER)
ROW_OWNER = result("row_owner", 'path = "orders[*].customer_id"\nsame_as_context = "customer"')
NAME = '[[operations.results]]\nname = "name"\npath = "customer.name"\n'


@pytest.mark.parametrize("whose", ["context", "agent"])
def test_a_value_beside_a_list_is_not_proven_by_its_rows(tmp_path: Path, whose: str) -> None:
    with pytest.raises(ConfigurationError, match='"name" is outside the list whose rows'):
        whose_of(tmp_path, LISTED.replace("RESULTS", ROW_OWNER + NAME), whose)


def test_the_shipped_connectors_prove_whose_data_by_the_context() -> None:
    folder = Path(__file__).parents[3] / "tests/tenants/connectors"
    files = sorted(folder.glob("*.toml"))
    assert files
    for path in files:
        connector = load_connector(path)
        assert list(LiveReach().misfits(connector, ReachEntry(name="system", port=443))) == []
        for operation in connector.operations:
            owners = [each.name for each in operation.results if each.same_as_context == "customer"]
            assert owners or not operation.personal, f"{path.name}: {operation.name}"


def test_plain_ids_are_refused_outside_development(tmp_path: Path) -> None:
    context = '[care_context]\nissuer = "https://care.example.com"\nplain_ids = true\n'
    place = (
        '[deployment]\naccount = "111122223333"\nregion = "us-east-1"\nzones = ["us-east-1a", "us-east-1b"]\n'
        'cost_center = "x"\nprofile = '
    )
    file = tmp_path / "north.toml"
    for profile in ("", f'{place}"dev"\n'):
        file.write_text(TENANT + context + profile)
        assert load_tenant(file).care_context is not None
    for profile in ("standard", "hipaa"):
        file.write_text(f'{TENANT}{context}{place}"{profile}"\n')
        with pytest.raises(ConfigurationError, match="plain_ids"):
            load_tenant(file)


def test_a_connector_changes_the_hash_of_the_settings_and_other_keys_of_the_entry_do_not(
    tmp_path: Path,
) -> None:
    part, connector = example()
    file = tmp_path / "north.toml"
    path = written(tmp_path, connector)

    def digest(tenant: str, text: str = connector) -> str:
        path.write_text(text)
        file.write_text(tenant)
        return load_tenant(file).settings_hash()

    whole = digest(TENANT + part)
    assert whole == digest(TENANT + part.replace("port = 443", "port = 8443"))
    assert whole != digest(TENANT)
    assert whole != digest(TENANT + part, connector.replace('"Shipped"', '"On its way"'))
    assert digest(TENANT) == digest(f'{TENANT}[[reach]]\nname = "orders"\nport = 443\n')


# --- from an OpenAPI file ---------------------------------------------------------------------------------
OPENAPI: dict[str, Any] = json.loads(of_page()[2])


def order_is(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the document with another schema of an order."""
    return {**OPENAPI, "components": {"schemas": {"Order": schema}}}


def with_openapi(folder: Path, document: Any = OPENAPI) -> Path:
    return written(folder, example()[1], document)


def test_an_openapi_file_says_path_patterns_and_responses(tmp_path: Path) -> None:
    operation = load_connector(with_openapi(tmp_path)).operation("get_order")
    assert operation.path == "/v1/orders/{order_id}"
    assert (operation.parameters[0].pattern, operation.parameters[0].required) == (r"\d{4}-\d{4}", True)
    takes = response_validator(operation.response).is_valid
    assert takes(order())
    for wrong in (
        {"id": 1},
        {"status": "lost"},
        {"refill": {"next_fill_date": "soon"}},
        {"items": [{"n": 1}]},
    ):
        assert not takes(order(**wrong))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("getOrder", "cancelOrder", "is DELETE .*only GET"),
        ("getOrder", "getOrders", "no operation getOrders; GET operations: getOrder"),
        ('name = "order_id"', 'name = "number"', "no parameter number"),
    ],
)
def test_what_the_openapi_file_does_not_have_is_refused(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    [(path, methods)] = OPENAPI["paths"].items()
    document = OPENAPI | {"paths": {path: methods | {"delete": {"operationId": "cancelOrder"}}}}
    with pytest.raises(ConfigurationError, match=said):
        load_connector(written(tmp_path, example()[1].replace(old, new, 1), document))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"swagger": "2.0"}, "not an OpenAPI 3 file"),
        ({**OPENAPI, "openapi": "3.2.0"}, "must be 3.0 or 3.1"),
        (order_is({"$ref": "https://evil.example/x"}), "out of the file"),
        (order_is({"$ref": "#/components/schemas/Nothing"}), "no such thing"),
        (order_is({"type": "strin"}), "wrong schema"),
    ],
)
def test_a_wrong_openapi_file_is_refused(tmp_path: Path, document: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_connector(with_openapi(tmp_path, document))


GOOD = 'schema_version = 1\nname = "clinic"\ndisplay_name = "Clinic"\n'
TAKER = '\n[[reach]]\nname = "care"\nport = 443\nlive.replies = "/replies"\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD + TAKER + TAKER.replace("care", "mail"), r"care and mail have replies; one \[\["),
        (GOOD + TAKER + 'auth = "sigv4"', r'reach\.0: replies = "/replies": the service posts with auth'),
        (GOOD + TAKER.replace('replies = "/replies"', 'whose = "agent"'), r"reach\.0: live has neither"),
        (GOOD + TAKER + 'caller = "connectors"', r'reach\.0: replies = "/replies": .*"orchestrator"'),
        (GOOD.rstrip() + TAKER.replace('"/replies"', '"https://x"'), r"reach\.0\.live\.replies: .*pattern"),
    ],
)
def test_a_wrong_system_is_named_with_its_key(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "clinic.toml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"(?s){file}: .*{says}"):
        load_tenant(file)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            'kind = "live"',
            "reach names one of the [[reach]] entries with a connector (orders), and it has no paths",
        ),
        (
            'kind = "live"\nreach = "order"',
            "reach names one of the [[reach]] entries with a connector (orders)",
        ),
        ('kind = "live"\nreach = "orders"\npaths = ["../notes"]', "it has no paths"),
        ('access = "everyone"\nreach = "orders"', 'only kind = "live" has it'),
    ],
)
def test_a_live_source_names_its_system_and_nothing_else(tmp_path: Path, source: str, said: str) -> None:
    file = tmp_path / "clinic.toml"
    file.write_text(
        'schema_version = 1\nname = "clinic"\ndisplay_name = "Clinic"\n'
        '[[reach]]\nname = "orders"\nport = 443\nlive.connector = "o.toml"\n'
        f'[[sources]]\nname = "system"\n{source}\n'
    )
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        load_tenant(file)


def test_a_live_system_has_no_documents() -> None:
    reach = ReachEntry.model_validate({"name": "orders", "port": 443, "live": {"connector": "orders.toml"}})
    entries = (
        SourceEntry(name="handbook", access="everyone"),
        SourceEntry(name="orders", kind="live", reach="orders"),
    )
    tenant = TenantConfig(
        schema_version=1, name="clinic", display_name="Clinic", sources=entries, reach=(reach,)
    )
    assert [source.name for source in KnowledgeSources.of(tenant).all] == ["handbook"]
