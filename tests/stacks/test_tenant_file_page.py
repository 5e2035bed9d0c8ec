"""docs/tenant-file.md: keys change on AWS what it says, and its tenant in an existing VPC synthesizes."""

from __future__ import annotations

import hashlib
import json
import random
import re
import tomllib
from typing import Any

import pytest

from assistant.tenant.deployment_checks import placeholders
from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import with_options
from tests.stacks import effects
from tools.pages import DATA, PAGE

KNOWN: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
KEYS = effects.all_keys()
MEASURED = effects.measurable()
SAMPLED = 2
"""Keys that each run measures; five seconds of a synth each."""


def test_every_key_has_a_row_with_the_value_of_the_first_file_that_sets_it() -> None:
    examples = {key: KNOWN[key]["example"] for key in KEYS}
    assert examples == effects.examples(KEYS), "run: make tenant-file"


def test_what_is_said_and_not_measured_is_that_of_the_changes() -> None:
    assert KNOWN.keys() == {*KEYS, *MEASURED}
    not_measured = KNOWN.keys() - set(MEASURED)
    assert {key: KNOWN[key]["on_aws"] for key in not_measured} == {
        key: effects.said(key) for key in not_measured
    }


def test_a_change_for_a_key_that_is_gone_is_found() -> None:
    tables = effects.changes()
    named = {key for name in ("from", "given", "with", "to", "examples") for key in tables[name]}
    assert named - KNOWN.keys() == set()


@pytest.mark.parametrize("key", MEASURED)
def test_a_change_changes_the_file(key: str) -> None:
    base = effects.base_of(key)
    assert effects.changed(key, base) != base


def test_a_sample_of_keys_changes_the_stacks_that_the_page_names() -> None:
    """Every change of a template or a default draws other keys."""
    templates = effects.synthesized(effects.base_of(""))
    drawn = random.Random(hashlib.sha256(json.dumps(templates, sort_keys=True).encode()).digest())  # noqa: S311 - no secret
    sample = drawn.sample(MEASURED, SAMPLED)

    assert effects.measured(sample) == {key: KNOWN[key]["on_aws"] for key in sample}, "run: make tenant-file"


def test_the_page_s_tenant_in_an_existing_vpc_is_complete_and_creates_no_vpc() -> None:
    block = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    data = tomllib.loads(block)
    tenant = with_options(TenantConfig).model_validate_json(json.dumps(data))
    assert list(placeholders(tenant)) == []

    network = effects.synthesized(data)["Network"][1]["Resources"].values()

    kinds = {resource["Type"] for resource in network}
    assert kinds & {"AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::RouteTable"} == set()
    made = [each["Properties"] for each in network if each["Type"] == "AWS::EC2::VPCEndpoint"]
    assert {each["VpcId"] for each in made} == {data["network"]["vpc"]["vpc_id"]}
    assert not [each for each in made if str(each["ServiceName"]).endswith((".kms", ".s3"))]
