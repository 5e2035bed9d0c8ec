"""Keys of live systems in a tenant file: a wrong one is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assistant.documents.sources import KnowledgeSources
from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployment import ReachEntry
from assistant.tenant.tenant import SourceEntry, TenantConfig, load_tenant

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
