"""What hospitals and operators were promised of every tenant, where no test of one stack holds it: backups,
leftovers, missed starts, who takes which role, sizes, and who may start what."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from assistant.options.sources.stack import connectors_of
from assistant.process.settings import PARSING_PREFIX
from assistant.tenant.deployment import RECOVERY
from stacks.tenant import release
from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import COMPANY, before, deployed, listed, metrics_of, named, resources_of, rights_of

Template = Mapping[str, Any]
Stacks = Mapping[str, Template]
TENANTS = ("pharmacy", "clinic", "sandbox", *COMPANY)
read = cache(templates_in)
EVERY = pytest.mark.parametrize("tenant", TENANTS)
BACKED_UP = pytest.mark.parametrize("tenant", ["pharmacy", *COMPANY])


@pytest.fixture
def stacks(assembly: Path, company_assembly: Path, tenant: str) -> Stacks:
    return read(assembly_folder(company_assembly if tenant in COMPANY else assembly, tenant))


def everywhere(stacks: Stacks, kind: str) -> Iterator[tuple[Template, str, Mapping[str, Any]]]:
    """Yield each resource of a type, with its template and logical id."""
    for template in stacks.values():
        for name, body in resources_of(template, kind).items():
            yield template, name, body["Properties"]


def allowed(template: Template, role: str) -> list[Mapping[str, Any]]:
    """Return the statements of a role's policies, with a list of actions each."""
    documents = [
        template["Resources"][name]["Properties"]["PolicyDocument"] for name in rights_of(template)[role]
    ]
    return [
        {**each, "Action": listed(each["Action"])}
        for document in documents
        for each in document["Statement"]
        if each["Effect"] == "Allow"
    ]


def only(template: Template, kind: str, begin: str) -> tuple[str, Mapping[str, Any]]:
    (found,) = [pair for pair in resources_of(template, kind).items() if pair[0].startswith(begin)]
    return found


@BACKED_UP
def test_aws_backup_reads_what_its_plans_name_and_no_other_store(stacks: Stacks) -> None:
    data = stacks["Data"]
    selections = resources_of(data, "AWS::Backup::BackupSelection").values()
    planned = named([each["Properties"]["BackupSelection"]["Resources"] for each in selections])
    role, _ = only(data, "AWS::IAM::Role", "RecoveryRole")
    statements = [
        (each["Resource"], {action for action in each["Action"] if action.startswith(("dynamodb:", "s3:"))})
        for each in allowed(data, role)
    ]
    assert [actions for on, actions in statements if on == "*" and actions] == [{"s3:ListAllMyBuckets"}]
    assert named([on for on, actions in statements if actions]) == planned


@BACKED_UP
def test_aws_backup_begins_tables_at_night_and_documents_twice_a_day_within_an_hour(stacks: Stacks) -> None:
    plans = resources_of(stacks["Data"], "AWS::Backup::BackupPlan").values()
    rules = [rule for plan in plans for rule in plan["Properties"]["BackupPlan"]["BackupPlanRule"]]
    assert {rule["RuleName"]: rule["ScheduleExpression"] for rule in rules} == {
        "Tables": "cron(0 0 * * ? *)",
        "Documents": "cron(0 0,12 * * ? *)",
    }
    assert {(rule["StartWindowMinutes"], rule["CompletionWindowMinutes"]) for rule in rules} == {(60, 480)}
    assert RECOVERY["hipaa"].rpo_hours >= 12 + (60 + 480) / 60, (
        "from the start of one copy to the end of the next"
    )


@BACKED_UP
def test_aws_backup_begins_after_its_role_has_its_rights(stacks: Stacks) -> None:
    data = stacks["Data"]
    role, _ = only(data, "AWS::IAM::Role", "RecoveryRole")
    for name in resources_of(data, "AWS::Backup::BackupSelection"):
        assert {role, *rights_of(data)[role]} <= before(data, name), name


@BACKED_UP
def test_nobody_ends_a_recovery_point_and_aws_backup_alone_has_its_duty(stacks: Stacks) -> None:
    (vault,) = resources_of(stacks["Data"], "AWS::Backup::BackupVault").values()
    refused = vault["Properties"]["AccessPolicy"]["Statement"][0]
    assert (refused["Effect"], refused["Principal"], "Condition" in refused) == ("Deny", {"AWS": "*"}, False)
    for end in ("DeleteRecoveryPoint", "DisassociateRecoveryPoint", "UpdateRecoveryPointLifecycle"):
        assert f"backup:{end}" in refused["Action"]
    having = [
        (name.rstrip("0123456789ABCDEF"), role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"])
        for _, name, role in everywhere(stacks, "AWS::IAM::Role")
        if {"Key": "duty", "Value": "backup"} in role["Tags"]
    ]
    assert having == [("RecoveryRole", {"Service": "backup.amazonaws.com"})]


@pytest.mark.parametrize("tenant", ["company"])
def test_copies_use_keys_of_the_named_vault_s_account_through_aws_backup_alone(stacks: Stacks) -> None:
    role, _ = only(stacks["Data"], "AWS::IAM::Role", "RecoveryRole")
    conditions = {
        action: statement["Condition"]
        for statement in allowed(stacks["Data"], role)
        for action in statement["Action"]
        if statement["Resource"] == "*" and action.startswith("kms:")
    }
    through = {"kms:ViaService": "backup.*.amazonaws.com"}
    its_keys = {"StringLike": through, "StringEquals": {"aws:ResourceAccount": "666677778888"}}
    for_a_resource = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    assert conditions == {"kms:DescribeKey": its_keys, "kms:CreateGrant": its_keys | for_a_resource}


@BACKED_UP
def test_each_way_in_which_a_recovery_point_or_its_copy_is_missed_raises_the_alarm(
    stacks: Stacks, tenant: str
) -> None:
    _, alarm = only(stacks["Observability"], "AWS::CloudWatch::Alarm", "AlarmsRecoveryPointMissing")
    ends = {f"NumberOfBackupJobs{end}" for end in ("Failed", "Aborted", "Expired")}
    ends |= {"NumberOfCopyJobsFailed"} if deployed(tenant).place.recovery_copies else set()
    assert {metric["MetricName"] for metric in metrics_of(alarm["Properties"])} == ends


@EVERY
def test_what_an_interrupted_parse_left_is_gone_after_a_day_with_its_versions(stacks: Stacks) -> None:
    rules = stacks["Data"]["Resources"]["DocumentsBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    (leftovers,) = [rule for rule in rules if rule.get("Prefix") == PARSING_PREFIX]
    assert (leftovers["Status"], leftovers["ExpirationInDays"]) == ("Enabled", 1)
    assert leftovers["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert [rule["Id"] for rule in rules if "ExpirationInDays" in rule] == ["Parsing"], "documents stay"


@EVERY
def test_a_missed_start_is_kept_for_two_weeks_by_the_schedule_or_machine_that_missed_it(
    stacks: Stacks,
) -> None:
    _, queue = only(stacks["Data"], "AWS::SQS::Queue", "MissedStarts")
    assert queue["Properties"]["MessageRetentionPeriod"] == 14 * 86400
    roles = [(t, each["Target"]["RoleArn"]) for t, _, each in everywhere(stacks, "AWS::Scheduler::Schedule")]
    for template, _, machine in everywhere(stacks, "AWS::StepFunctions::StateMachine"):
        if "SendMessage" in machine.get("DefinitionSubstitutions", {}):
            roles.append((template, machine["RoleArn"]))
    for template, role in roles:
        statements = allowed(template, *named(role))
        (sends,) = [each for each in statements if each["Action"] == ["sqs:SendMessage"]]
        assert "MissedStarts" in json.dumps(sends["Resource"])
        (uses,) = [each for each in statements if {"kms:GenerateDataKey", "kms:Decrypt"} <= {*each["Action"]}]
        assert "sqs." in json.dumps(uses["Condition"]["StringEquals"]["kms:ViaService"])


@EVERY
def test_a_scheduled_task_starts_in_the_tenant_s_cluster_and_is_tagged_at_its_start_alone(
    stacks: Stacks, tenant: str
) -> None:
    for template, _, machine in everywhere(stacks, "AWS::StepFunctions::StateMachine"):
        (role,) = named(machine["RoleArn"])
        conditions = {
            a: each.get("Condition", {}) for each in allowed(template, role) for a in each["Action"]
        }
        if "ecs:RunTask" in conditions:
            (cluster,) = conditions["ecs:RunTask"]["ArnEquals"].values()
            assert cluster.endswith(f":cluster/{deployed(tenant).full_name}")
            assert conditions["ecs:TagResource"] == {"StringEquals": {"ecs:CreateAction": "RunTask"}}
            passed = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
            assert conditions["iam:PassRole"] == {"StringEquals": passed}


@EVERY
def test_each_source_with_a_connector_is_read_by_a_schedule_and_watched_by_an_alarm(
    stacks: Stacks, tenant: str
) -> None:
    sources = sorted(connectors_of(deployed(tenant)))
    schedules = resources_of(stacks["Orchestrator"], "AWS::Scheduler::Schedule").values()
    alarms = resources_of(stacks["Observability"], "AWS::CloudWatch::Alarm").values()
    metrics = [metric for alarm in alarms for metric in metrics_of(alarm["Properties"])]
    watched = [
        each["Value"] for one in metrics for each in one.get("Dimensions", []) if each["Name"] == "Source"
    ]
    asked = [json.loads(each["Properties"]["Target"]["Input"])["command"] for each in schedules]
    assert (sorted(asked), sorted(watched)) == ([[name] for name in sources], sources)


@EVERY
def test_only_its_own_rule_feeds_a_queue_or_calls_a_function(stacks: Stacks) -> None:
    for template, name, body in everywhere(stacks, "AWS::SQS::QueuePolicy"):
        for statement in body["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow":
                (rule,) = named(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
                (target,) = template["Resources"][rule]["Properties"]["Targets"]
                assert named(target["Arn"]) == named(body["Queues"]), name
    for template, name, body in everywhere(stacks, "AWS::Lambda::Permission"):
        (rule,) = named(body["SourceArn"])
        assert template["Resources"][rule]["Type"] == "AWS::Events::Rule", name


@EVERY
def test_those_who_push_or_publish_take_the_role_of_their_own_source_or_models_alone(
    stacks: Stacks, tenant: str
) -> None:
    place = deployed(tenant).place
    roles = [role for _, _, role in everywhere({"": stacks["Data"]}, "AWS::IAM::Role")]
    taken = {role["RoleName"]: role for role in roles if {"Key": "duty", "Value": "pusher"} in role["Tags"]}
    assert taken.keys() == {f"{tenant}.{source}" for source in place.pushers}
    for source, arns in place.pushers.items():
        role = taken[f"{tenant}.{source}"]
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert listed(trust["Principal"]["AWS"]) == list(arns), source
        assert {"Key": "inbox", "Value": source} in role["Tags"]
    if place.artifact_publishers:
        _, publisher = only(stacks["Data"], "AWS::IAM::Role", "ArtifactPublisher")
        (trust,) = publisher["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert listed(trust["Principal"]["AWS"]) == list(place.artifact_publishers)
        assert "ArtifactPublisherArn" in stacks["Data"]["Outputs"]


@EVERY
def test_pushers_are_refused_by_every_bucket_but_the_inbox_and_there_without_a_folder(stacks: Stacks) -> None:
    pusher = {"aws:PrincipalTag/duty": "pusher"}
    refused = {
        name: statement["Condition"]
        for _, _, policy in everywhere(stacks, "AWS::S3::BucketPolicy")
        for name in named(policy["Bucket"])
        for statement in policy["PolicyDocument"]["Statement"]
        if statement.get("Action") == "s3:*" and statement.get("Condition", {}).get("StringEquals") == pusher
    }
    assert refused.keys() == {name for _, name, _ in everywhere(stacks, "AWS::S3::Bucket")}
    with_more = {name for name, condition in refused.items() if condition != {"StringEquals": pusher}}
    assert with_more == {"InboxBucket"}
    assert refused["InboxBucket"]["Null"] == {"aws:PrincipalTag/inbox": "true"}


@EVERY
def test_each_bucket_s_tag_names_the_release_that_is_deployed(stacks: Stacks) -> None:
    for _, name, bucket in everywhere(stacks, "AWS::S3::Bucket"):
        assert {"Key": "release", "Value": release()} in bucket["Tags"], name


def statements_of(template: Template, kind: str, name: str) -> list[Mapping[str, Any]]:
    """Return the statements of the policy of a bucket or of a key."""
    if kind == "key":
        return template["Resources"][name]["Properties"]["KeyPolicy"]["Statement"]
    policies = resources_of(template, "AWS::S3::BucketPolicy").values()
    (policy,) = [each["Properties"] for each in policies if each["Properties"]["Bucket"] == {"Ref": name}]
    return policy["PolicyDocument"]["Statement"]


@EVERY
def test_receipts_are_signed_by_the_tenant_s_roles_and_by_nobody_who_administers(
    stacks: Stacks, tenant: str
) -> None:
    statements = statements_of(stacks["Keys"], "key", "ReceiptKey")
    (signs,) = [each for each in statements if {"kms:Sign", "kms:*"} & {*listed(each["Action"])}]
    assert signs["Condition"]["StringEquals"] == {
        "aws:PrincipalTag/tenant": tenant,
        "kms:SigningAlgorithm": "ECDSA_SHA_256",
    }


@EVERY
def test_captured_calls_and_feedback_are_decrypted_only_through_s3(stacks: Stacks) -> None:
    for key in ("CaptureKey", "FeedbackKey"):
        uses = [
            each
            for each in statements_of(stacks["Keys"], "key", key)
            if "kms:Decrypt" in listed(each["Action"]) and each.get("Sid") != "ReadByDeclared"
        ]
        (via,) = [listed(each["Condition"]["StringEquals"]["kms:ViaService"]) for each in uses]
        assert all(service.startswith("s3.") for service in via), key


@EVERY
def test_raw_capture_expires_within_a_day_without_the_redactor(stacks: Stacks) -> None:
    bucket = stacks["Data"]["Resources"]["QuarantineBucket"]["Properties"]
    (bounded,) = [rule for rule in bucket["LifecycleConfiguration"]["Rules"] if rule["Id"] == "Bounded"]
    assert bounded["ExpirationInDays"] == 1
    assert bounded["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}


@pytest.mark.parametrize("tenant", ["company"])
def test_declared_readers_read_no_raw_capture_and_break_glass_does(stacks: Stacks, tenant: str) -> None:
    def admitted(bucket: str, sid: str) -> str:
        statements = statements_of(stacks["Data"], "bucket", bucket)
        return json.dumps([each["Condition"] for each in statements if each.get("Sid") == sid])

    observability, place = deployed(tenant).config.observability, deployed(tenant).place
    raw = admitted("QuarantineBucket", "OnlyRedactorReads")
    assert [glass for glass in place.break_glass if glass not in raw] == []
    (reader, _) = observability.declared_principals
    assert reader not in raw
    assert reader in admitted("LabelsBucket", "OnlyTheseRead")


@EVERY
def test_the_trail_is_locked_for_its_whole_retention_and_labels_under_hipaa(
    stacks: Stacks, tenant: str
) -> None:
    bucket = stacks["Data"]["Resources"]["TrailBucket"]["Properties"]
    retention = bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert bucket["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] >= retention["Days"] > 0
    labels = stacks["Data"]["Resources"]["LabelsBucket"]["Properties"]
    assert labels.get("ObjectLockEnabled", False) is (deployed(tenant).place.profile == "hipaa")


@pytest.mark.parametrize("tenant", [name for name in TENANTS if name != "sandbox"])
def test_what_outlives_its_stack_keeps_its_policy(stacks: Stacks) -> None:
    kept = (
        "Backup::BackupVault",
        "SecretsManager::Secret",
        "DynamoDB::Table",
        "KMS::Key",
        "OpenSearchService::Domain",
        "S3::Bucket",
    )
    for kind in (*kept, "S3::BucketPolicy", "Logs::LogGroup", "SecretsManager::Secret"):
        for template in stacks.values():
            for name, body in resources_of(template, f"AWS::{kind}").items():
                assert body["DeletionPolicy"] in ("Retain", "RetainExceptOnCreate"), name
                assert body["UpdateReplacePolicy"] == "Retain", name


@EVERY
def test_connections_through_private_link_meet_the_rules_of_the_security_groups(stacks: Stacks) -> None:
    balancer = stacks["Edge"]["Resources"]["NetworkLoadBalancer"]["Properties"]
    assert balancer["EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"] == "on"


@pytest.mark.parametrize("tenant", ["company"])
def test_the_listener_without_client_certificates_serves_only_health(stacks: Stacks) -> None:
    resources = stacks["Edge"]["Resources"]
    assert resources["TlsListener"]["Properties"]["MutualAuthentication"]["Mode"] == "verify"
    (default,) = resources["HealthListener"]["Properties"]["DefaultActions"]
    assert default["FixedResponseConfig"]["StatusCode"] == "404"
    (rule,) = resources_of(stacks["Edge"], "AWS::ElasticLoadBalancingV2::ListenerRule").values()
    (condition,) = rule["Properties"]["Conditions"]
    assert condition["PathPatternConfig"]["Values"] == ["/healthz"]


@EVERY
def test_the_mover_of_feedback_ends_a_run_before_the_next(stacks: Stacks) -> None:
    template = stacks.get("Learning", {"Resources": {}})
    for rule in resources_of(template, "AWS::Events::Rule").values():
        assert rule["Properties"]["ScheduleExpression"] == "rate(1 minute)"
        (function,) = resources_of(template, "AWS::Lambda::Function").values()
        within_s = function["Properties"]["Environment"]["Variables"]["ASSISTANT_MOVE_WITHIN_S"]
        assert float(within_s) < 60 < function["Properties"]["Timeout"]


@EVERY
def test_every_bucket_is_under_a_key_of_the_tenant_which_rotates(stacks: Stacks) -> None:
    for _, name, key in everywhere(stacks, "AWS::KMS::Key"):
        assert key.get("EnableKeyRotation", False) is (name != "ReceiptKey"), name
    for _, name, bucket in everywhere(stacks, "AWS::S3::Bucket"):
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        is_logs = name == "LogsBucket"  # AWS delivers some logs to no bucket under such a key
        assert (rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms") is not is_logs, name


@EVERY
def test_every_hop_is_tls_of_today(stacks: Stacks) -> None:
    for _, name, policy in everywhere(stacks, "AWS::S3::BucketPolicy"):
        conditions = [each.get("Condition") for each in policy["PolicyDocument"]["Statement"]]
        assert {"NumericLessThan": {"s3:TlsVersion": 1.2}} in conditions, name
    listener = stacks["Edge"]["Resources"]["TlsListener"]["Properties"]
    assert (listener["Protocol"], "Certificates" in listener) == ("HTTPS", True)
    for _, name, domain in everywhere(stacks, "AWS::OpenSearchService::Domain"):
        assert domain["DomainEndpointOptions"]["EnforceHTTPS"] is True, name
        assert domain["NodeToNodeEncryptionOptions"] == {"Enabled": True}, name


@EVERY
def test_a_system_s_secret_is_created_empty_under_the_tenant_s_key(stacks: Stacks) -> None:
    for _, name, secret in everywhere(stacks, "AWS::SecretsManager::Secret"):
        assert not {"SecretString", "GenerateSecretString"} & secret.keys(), name
        assert "DataKey" in json.dumps(secret["KmsKeyId"]), name


@EVERY
def test_a_function_s_code_may_not_make_network_interfaces(stacks: Stacks) -> None:
    """Lambda itself may, by the same role."""
    policies = [each for each in everywhere(stacks, "AWS::IAM::ManagedPolicy") if "Platform" in each[1]]
    assert policies
    for _, name, policy in policies:
        statements = policy["PolicyDocument"]["Statement"]
        (denied,) = [each for each in statements if each["Effect"] == "Deny"]
        assert "lambda:SourceFunctionArn" in denied["Condition"]["ArnLike"], name
        assert "ec2:CreateNetworkInterface" in denied.get("Action", ()) or "NotAction" in denied, name
