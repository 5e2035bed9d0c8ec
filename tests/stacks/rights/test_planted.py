"""Mistakes in policies that neither a rule nor the proof of paths refuses (``LEFT`` of test_rules): each is
planted in the pharmacy's templates, and the test of rights that it is left to fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.cli.aws.templates import facts_of
from tests.stacks.mistakes import independent, planted_in_models, planted_in_policies, planted_in_services
from tests.stacks.mistakes.scene import Scene
from tests.stacks.rights import test_duties, test_services
from tests.stacks.rights.model import Account, read_account
from tests.stacks.synthesized import ROOT

TENANT = "pharmacy"
Check = Callable[[Account], None]


def captured(account: Account) -> None:
    test_duties.test_a_captured_call_passes_bucket_and_key(account, TENANT, "Llm")


def keyed_logs(account: Account) -> None:
    test_services.test_each_log_group_may_use_its_key(account, TENANT)


def delivered_logs(account: Account) -> None:
    test_services.test_logs_are_delivered_to_the_logs_bucket(account, TENANT)


def started(account: Account) -> None:
    test_services.test_fargate_pulls_images_reads_secrets_and_writes_the_log(account, TENANT)


PLANTED: list[tuple[Callable[[Scene], None], Check]] = [
    (planted_in_models.log_key_without_the_logs_service, keyed_logs),
    (planted_in_policies.log_key_for_the_groups_of_another_tenant, keyed_logs),
    (planted_in_policies.log_key_that_denies_the_service, keyed_logs),
    (independent.a_log_group_under_the_key_of_data, keyed_logs),
    (planted_in_policies.capture_key_without_data_keys, captured),
    (planted_in_policies.capture_key_for_another_service, captured),
    (planted_in_policies.capture_bucket_that_asks_for_another_tag, captured),
    (planted_in_policies.capture_by_a_role_that_is_kept_out, captured),
    (independent.capture_into_another_bucket, captured),
    (independent.capture_within_a_boundary_of_reading, captured),
    (independent.a_capture_bucket_for_another_encryption, captured),
    (planted_in_policies.log_bucket_that_denies_services, delivered_logs),
    (independent.s3_logs_into_a_bucket_with_a_key, delivered_logs),
    (planted_in_services.no_rights_to_pull, started),
    (planted_in_policies.pulling_is_denied, started),
    (planted_in_policies.secret_of_somebody_else, started),
    (independent.a_log_group_that_the_role_does_not_know, started),
]


@pytest.fixture(scope="module")
def scene(assembly: Path) -> Scene:
    facts = facts_of(ROOT / "tests/tenants" / f"{TENANT}.toml", root=ROOT)
    return Scene.read([assembly / "assembly-Pharmacy"], facts=facts)


@pytest.fixture(scope="module")
def folders(assembly: Path, account_assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    alone = tmp_path_factory.mktemp("planted")
    shutil.copytree(assembly / "assembly-Pharmacy", alone / "assembly-Pharmacy")
    return [alone, account_assembly]


@pytest.mark.parametrize(("change", "check"), PLANTED, ids=lambda one: one.__name__)
def test_a_test_of_rights_refuses_the_mistake(
    scene: Scene, folders: list[Path], change: Callable[[Scene], None], check: Check
) -> None:
    changed = scene.copy()
    change(changed)
    for template in changed.templates:
        written = folders[0] / "assembly-Pharmacy" / template.path.name
        written.write_text(json.dumps(template.document), encoding="utf-8")
    account = read_account(*folders)
    with pytest.raises(AssertionError):
        check(account)


@pytest.mark.parametrize("check", [captured, keyed_logs, delivered_logs, started])
def test_the_same_tests_pass_without_a_mistake(account: Account, check: Check) -> None:
    check(account)
