"""A tenant is deployed paused, then resumed and paused again with the deployed state machines' definitions.

Each of their calls goes to the emulated account. Only waits are not real: they take no time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stacks.emulated_account import EmulatedAccount, emulated_account, switched
from tests.stacks.synthesized import assembly_folder

TENANT = "sandbox"
POWER = f"/assistant/{TENANT}/power"
ENDPOINTS = {f"{TENANT}-embedding"}
pytestmark = pytest.mark.loopback


@pytest.fixture(scope="module")
def account(assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAccount]:
    """An account in which the tenant was deployed for the first time: paused."""
    with emulated_account(tmp_path_factory.mktemp("account")) as account:
        account.bootstrap(assembly)
        account.put_parameter(POWER, "paused")
        account.put_parameter(f"/assistant/{TENANT}/jwks", '{"keys": []}')
        account.deploy(assembly_folder(assembly, TENANT))
        yield account


def word(account: EmulatedAccount) -> str:
    return str(account.client("ssm").get_parameter(Name=POWER)["Parameter"]["Value"])


def endpoints(account: EmulatedAccount) -> set[str]:
    return {each["EndpointName"] for each in account.client("sagemaker").list_endpoints()["Endpoints"]}


def sources(account: EmulatedAccount) -> set[str]:
    """Return the states of the event sources that the state machines switch, by ingestion's names."""
    found = account.client("ssm").get_parameter(Name=f"{POWER}-sources")["Parameter"]["Value"]
    named = json.loads(found)["event_sources"]
    assert len(named) > 1
    client = account.client("lambda")
    return {client.get_event_source_mapping(UUID=each)["State"] for each in named}


def test_a_first_deployment_is_paused_resumes_and_pauses_again(account: EmulatedAccount) -> None:
    assert word(account) == "paused"
    assert endpoints(account) == set()
    assert sources(account) == {"Disabled"}

    called = switched(account, "Resume", tenant=TENANT)

    assert word(account) == "on"
    assert endpoints(account) == ENDPOINTS
    assert sources(account) == {"Enabled"}
    assert "cloudformation:updateStack" in called

    switched(account, "Pause", tenant=TENANT)

    assert word(account) == "paused"
    assert endpoints(account) == set()
    assert sources(account) == {"Disabled"}
