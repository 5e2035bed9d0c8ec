"""The tests' own files set every key of a deployment's settings: the snapshots see no other key."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from assistant.tenant.care_app import CareAppConfig
from assistant.tenant.deployment import AccountConfig
from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import models_in, with_options

TESTS = Path(__file__).parents[2]
FILES: Mapping[type[BaseModel], tuple[str, ...]] = {
    TenantConfig: ("tenants/*.toml", "company/tenants/*.toml"),
    CareAppConfig: ("care_app/*.toml", "company/care_app/*.toml"),
    AccountConfig: ("company/accounts/*.toml",),
}
NOT_SET = {
    "embedding_next": "needs a second model; tests/stacks/test_embedding_next.py makes one",
    "models.embedding_next": "as embedding_next",
    "models.embedding_next_instance": "as embedding_next",
    "sources.ocr": "a deployment refuses it",
    "sources.ocr_languages": "goes with ocr",
    "sources.connector.ca_pem": "a deployment writes it, from ca_file of the [[reach]] entry",
    "records.deployed": "a deployment writes it",
    "reach.live.inline": "is read from the connector file",
    "reach.ca_pem": "is read from ca_file",
}
"""Key = why no file of a deployed tenant has it. Of the care side they are keys that only a tenant needs."""
NOT_OF_THE_CARE_SIDE = {
    "deployment.break_glass": "it has no store",
    "deployment.artifact_publishers": "it has no model",
    "deployment.image_key": "it has no image",
    "deployment.pushers": "it has no inbox",
    "deployment.recovery_copies": "it has no store",
    "deployment.accepted_end_of_support": "no deployment of it is refused for an end of support",
    "network.prefix_lists": "its one gateway endpoint has no rule in a security group",
}


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every key below a model, by its path without numbers: ``reach.port``."""
    for name, field in with_options(model).model_fields.items():
        key = f"{prefix}{name}"
        yield key
        if key not in NOT_SET:
            for inner in models_in(field.annotation):
                yield from keys_of(inner, f"{key}.")


def keys_in(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield every key that a file sets, likewise."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield f"{prefix}{name}"
        for each in inner if isinstance(inner, list) else [inner]:
            yield from keys_in(each, f"{prefix}{name}.")


@pytest.mark.parametrize("model", FILES, ids=lambda model: model.__name__)
def test_every_key_is_set_by_a_file_of_the_tests(model: type[BaseModel]) -> None:
    files = [file for pattern in FILES[model] for file in sorted(TESTS.glob(pattern))]
    assert files
    set_there = {key for file in files for key in keys_in(tomllib.loads(file.read_text(encoding="utf-8")))}
    excused = NOT_SET | (NOT_OF_THE_CARE_SIDE if model is CareAppConfig else {})
    assert set(keys_of(model)) - set_there - excused.keys() == set()
    assert excused.keys() & set_there == set(), "no reason is needed for a key that a file sets"
