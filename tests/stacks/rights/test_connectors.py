"""What runs of connectors reach and read, by the templates of a tenant that has a wiki."""

from __future__ import annotations

from pathlib import Path

from assistant.cli.aws.templates import prove, refuse_broken_rules, refuse_paths
from template_checks.templates import Templates
from tests.stacks.rights.model import Account
from tests.stacks.rights.test_live_systems import READ_SECRET, let


def test_runs_reach_their_system_and_the_services_that_they_call(
    clinic_file: Path, clinic_assembly: Path
) -> None:
    stage = clinic_assembly / "assembly-Clinic"
    refuse_broken_rules(stage, tenant_file=clinic_file)
    refuse_paths(stage, tenant_file=clinic_file)
    report = prove(Templates.read([stage]))
    assert "company system wiki" in {row.target for row in report.rows if row.source == "connectors"}
    called = {row.service for row in report.calls if row.caller == "connectors"}
    assert called >= {"dynamodb", "s3", "sqs", "secretsmanager", "ecr.dkr", "logs"}


def test_runs_alone_read_the_secret_of_the_wiki(account: Account) -> None:
    (secret,) = [one for one in account.stores if one.logical_id == "WikiSecret"]
    assert let(account, account.roles, [secret]) == {("clinic/Connecto", READ_SECRET, "WikiSecret")}
