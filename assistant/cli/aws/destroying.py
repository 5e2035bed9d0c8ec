"""``assistant aws destroy``: deletes a tenant from its account, and lists what a lock keeps and until when.

It keeps no state of its own: it reads the tenant's stacks, and CloudFormation's record of deleted ones, which
is kept for 90 days. So the command may be killed at any call and run again, also after ``cdk destroy``.
Nothing is deleted by its tags: another system of the company may use the same.

A run lifts what protects the stacks, and has ``cdk destroy`` delete them, the newest first. Then the *sweep*
deletes what the stacks retained (buckets, tables, vaults, keys). At last, what still has the tenant's tag
without an explanation is listed as an *orphan*.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

from assistant.cli.aws.templates import STANDARD_ERROR, cdk_call
from assistant.domain.errors import DeploymentError
from assistant.terminal.account import AwsAccount, wait_until
from assistant.terminal.terminal import Terminal

_GONE = "DELETE_COMPLETE"
_FAILED = "DELETE_FAILED"
_BUCKET = "AWS::S3::Bucket"
_KEY_WAIT_DAYS = 30
"""The longest that KMS offers: until then a key's deletion can be cancelled."""
_BACKUP_DAYS = 35
"""DynamoDB keeps a backup of a deleted table with point-in-time recovery for so long, at no cost:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/PointInTimeRecovery_Howitworks.html"""
_ATTEMPTS = 3
"""Deletions of a stack or bucket: a first one that fails shows what to remove."""
_ENDS_WITH_US = """
exec 3<&0
"$@" </dev/null &
cdk=$!
{ read _ <&3; kill -TERM 0; } &
wait $cdk
"""
"""Shell program that runs its arguments, and ends its process group when its input is closed: also where this
command is killed, and whichever process Node was started by."""
_MOST_PARAMETERS = 10
"""Names that one DeleteParameters takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A resource that stays for a while, and why. ``until`` is None where only the holder of a lock ends
    it."""

    what: str
    why: str
    until: datetime | None

    def __str__(self) -> str:
        end = "until its holder releases it" if self.until is None else f"until {self.until:%Y-%m-%d}"
        return f"stays: {self.what}, {end} ({self.why})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a destruction would delete, and what would stay."""

    stacks: Sequence[str]
    left: Sequence[str]
    """Resources that deleted stacks retained: ``AWS::S3::Bucket assistant-pharmacy-documents``."""
    parameters: Sequence[str]
    secrets: Sequence[str]
    stays: Sequence[Kept]

    def as_text(self) -> str:
        goes = [f"goes: {name}" for name in (*self.stacks, *self.left, *self.parameters, *self.secrets)]
        return "\n".join([*goes, *map(str, self.stays)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a destruction left behind."""

    stays: Sequence[Kept]
    orphans: Sequence[str]
    """ARNs with the tenant's tag that nothing here explains."""

    def as_text(self) -> str:
        lines = [*map(str, self.stays), *(f"orphan: {arn}" for arn in self.orphans)]
        return "\n".join(lines) or "Nothing is left."


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A resource that a stack of the tenant has or had, by CloudFormation's record."""

    kind: str
    id: str
    """Its physical id: a name, an id or an ARN."""
    logical_id: str
    status: str
    stack: str
    gone_at: datetime | None
    """When its stack was deleted; None while it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destruction:
    """Deletes one tenant from an account: ``plan()`` shows it, ``run()`` does it. Both may be called
    again."""

    aws: AwsAccount
    full_name: str
    """``assistant-pharmacy``: what its stacks' names begin with."""
    tenant: str
    parameters: str
    """The path of its parameters: ``/assistant/pharmacy/``. Names of its secrets begin likewise without the
    first slash: ``assistant/pharmacy/``."""
    terminal: Terminal
    cdk: Callable[[Sequence[str]], bool]
    """Runs cdk with these arguments, and returns whether it succeeded: ``run_cdk``."""
    poll_s: float = 10.0
    limit_s: float = 5400.0
    """Longest wait for one change: Lambda releases network interfaces after 40 minutes, and a search domain
    is deleted in 60."""
    gone: set[str] = field(default_factory=set[str])
    """Ids, names or ARNs that this run deleted, or found deleted; no orphans."""

    def plan(self) -> Plan:
        """Return what ``run`` would delete, and the latest end of what would stay. Raises DeploymentError."""
        stacks = self._standing()
        resources = [resource for stack in stacks for resource in self._resources(stack)] + self._left()
        locks = {resource.id: self._lock(resource.id) for resource in resources if resource.kind == _BUCKET}
        now = datetime.now(UTC)
        return Plan(
            stacks=[stack["StackName"] for stack in stacks],
            left=[f"{resource.kind} {resource.id}" for resource in self._left()],
            parameters=self._parameters(),
            secrets=[secret["Name"] for secret in self._secrets()],
            stays=[
                Kept(what=bucket, why=lock[0], until=now + lock[1]) for bucket, lock in locks.items() if lock
            ],
        )

    def run(self) -> Ended:
        """Delete the tenant. Raises DeploymentError after ``limit_s`` of waiting, or where AWS refuses."""
        for chosen in (self._above_network, self._standing):
            self._delete(chosen)
        self.terminal.step("removing what the stacks left")
        kept = list(self._sweep())
        return Ended(stays=kept, orphans=self._orphans(kept))

    # --- the stacks ---------------------------------------------------------------------------------------
    def _stacks(self) -> list[Mapping[str, Any]]:
        """Return the tenant's stacks and the record of those that are gone, the newest first.

        A stack refers to older ones only, so this is the order in which they can be deleted.
        """
        of_tenant = self.aws.stacks(f"{self.full_name}-")
        return sorted(of_tenant, key=lambda stack: stack["CreationTime"], reverse=True)

    def _standing(self) -> list[Mapping[str, Any]]:
        """Return the stacks that are not deleted."""
        return [stack for stack in self._stacks() if stack["StackStatus"] != _GONE]

    def _resources(self, stack: Mapping[str, Any]) -> list[Recorded]:
        """Return a stack's resources, those that are deleted included; also of a stack that is deleted."""
        given = {"StackName": stack["StackId"]}
        listed = self.aws.listed("cloudformation", "list_stack_resources", "StackResourceSummaries", **given)
        return [
            Recorded(
                kind=summary["ResourceType"],
                id=summary["PhysicalResourceId"],
                logical_id=summary["LogicalResourceId"],
                status=summary["ResourceStatus"],
                stack=stack["StackName"],
                gone_at=stack.get("DeletionTime") if stack["StackStatus"] == _GONE else None,
            )
            for summary in listed
            if summary.get("PhysicalResourceId")
        ]

    def _above_network(self) -> list[Mapping[str, Any]]:
        """Return the stacks that are newer than the one with the VPC. They go before it: some services
        release its addresses long after their resources are deleted."""

        def has_no_vpc(stack: Mapping[str, Any]) -> bool:
            return all(resource.kind != "AWS::EC2::VPC" for resource in self._resources(stack))

        return list(takewhile(has_no_vpc, self._standing()))

    def _delete(self, chosen: Callable[[], list[Mapping[str, Any]]]) -> None:
        """Have cdk delete stacks until none stands; what it cannot delete is retained in the end, for the
        sweep. Raises DeploymentError where a stack stays. ``chosen``: returns those that still stand."""
        failures = Counter[str]()
        while stacks := chosen():
            for stack in stacks:
                self._prepare(stack)
            self.terminal.step(f"deleting {', '.join(stack['StackName'] for stack in stacks)}")
            with tempfile.TemporaryDirectory() as folder:
                self._write_assembly(Path(folder), stacks)
                self.cdk(["destroy", "--force", "--app", folder, "**"])
            left = chosen()  # cdk stops at the first stack that resists
            failed = [stack for stack in left if stack["StackStatus"] == _FAILED]
            failures.update(stack["StackName"] for stack in failed)
            for stack in failed or left:
                if failures[stack["StackName"]] in (0, _ATTEMPTS):
                    self._force(stack)

    def _write_assembly(self, folder: Path, stacks: Sequence[Mapping[str, Any]]) -> None:
        """Write the cloud assembly that cdk reads: the stacks that stand, not those of the tenant file, which
        may have changed since. Each depends on all older ones. https://docs.aws.amazon.com/cdk/api/v2/docs/cloud-assembly-schema-readme.html
        """
        names = [str(stack["StackName"]) for stack in stacks]
        artifacts = {
            name: {
                "type": "aws:cloudformation:stack",
                "environment": f"aws://{self.aws.account}/{self.aws.region}",
                "properties": {"templateFile": "none.json"},
                "dependencies": names[number:],
            }
            for number, name in enumerate(names, start=1)
        }
        (folder / "none.json").write_text("{}", encoding="utf-8")
        manifest = {"version": "36.0.0", "artifacts": artifacts}
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    def _prepare(self, stack: Mapping[str, Any]) -> None:
        """Wait until nothing changes a stack, and remove its protections."""
        self._until(f"{stack['StackName']} is changing", lambda: self._rests(stack))
        self._lift([resource for resource in self._resources(stack) if resource.status != _GONE])
        self.aws.call(
            "cloudformation",
            "update_termination_protection",
            missing="ValidationError",  # a deletion that was under way has ended
            StackName=stack["StackId"],
            EnableTerminationProtection=False,
        )

    def _force(self, stack: Mapping[str, Any]) -> None:
        """Delete a stack without the resources that resist: the sweep deletes them, or they are orphans.
        Raises DeploymentError where it stays."""
        name = stack["StackName"]
        if self._status(stack) == _FAILED:  # CloudFormation forces the deletion of such a stack alone
            given = {"StackName": stack["StackId"], "DeletionMode": "FORCE_DELETE_STACK"}
            self.aws.call("cloudformation", "delete_stack", **given)
            self._until(f"{name} is being deleted", lambda: self._rests(stack))
        if self._status(stack) != _GONE:
            raise DeploymentError(
                f"{name} cannot be deleted. Its events say why: aws cloudformation describe-stack-events "
                f"--stack-name {name}. Then run the same command again."
            )

    def _status(self, stack: Mapping[str, Any]) -> str:
        described = self.aws.call("cloudformation", "describe_stacks", StackName=stack["StackId"])
        return described["Stacks"][0]["StackStatus"]

    def _rests(self, stack: Mapping[str, Any]) -> bool:
        """Return whether no operation on the stack is under way."""
        status = self._status(stack)
        return status == "REVIEW_IN_PROGRESS" or not status.endswith("_IN_PROGRESS")

    def _lift(self, resources: Sequence[Recorded]) -> None:
        """Remove what makes AWS refuse the deletion of these resources of one stack: protections,
        connections, interfaces of services. What still resists, such as a bucket, is the sweep's."""
        for resource in resources:
            match resource.kind:
                case "AWS::ElasticLoadBalancingV2::LoadBalancer":
                    self._unprotect(resource.id)
                case "AWS::EC2::VPCEndpointService":
                    self._reject_connections(resource.id)
                case "AWS::SageMaker::Endpoint":
                    endpoint = resource.id.rpartition("/")[2]
                    self._until(f"{endpoint} is updating", lambda name=endpoint: self._endpoint_rests(name))
                case "AWS::EC2::VPC":
                    self._free_interfaces(resource.id)
                case _:
                    pass

    def _unprotect(self, arn: str) -> None:
        """Turn the deletion protection of a load balancer off."""
        attribute = {"Key": "deletion_protection.enabled", "Value": "false"}
        given = {"LoadBalancerArn": arn, "Attributes": [attribute]}
        self.aws.call("elbv2", "modify_load_balancer_attributes", missing="LoadBalancerNotFound", **given)

    def _reject_connections(self, service: str) -> None:
        """End the connections of an endpoint service: it cannot be deleted with an open one."""
        filters = [{"Name": "service-id", "Values": [service]}]
        listed = self.aws.listed(
            "ec2", "describe_vpc_endpoint_connections", "VpcEndpointConnections", Filters=filters
        )
        open_states = ("available", "pendingAcceptance", "pending")
        open_ids = [link["VpcEndpointId"] for link in listed if link["VpcEndpointState"] in open_states]
        if open_ids:
            given = {"ServiceId": service, "VpcEndpointIds": open_ids}
            self.aws.call("ec2", "reject_vpc_endpoint_connections", **given)

    def _endpoint_rests(self, name: str) -> bool:
        """Return whether no update of a SageMaker endpoint is under way; True where it is deleted."""
        described = self.aws.call(
            "sagemaker", "describe_endpoint", missing="ValidationException", EndpointName=name
        )
        return described is None or described["EndpointStatus"] in ("InService", "Failed", "OutOfService")

    def _free_interfaces(self, vpc: str) -> None:
        """Delete the search domains that earlier stacks retained, since they hold interfaces in the network,
        and wait until all services have released theirs. Interfaces of VPC endpoints go with the network's
        stack."""
        for resource in self._left():
            if resource.kind == "AWS::OpenSearchService::Domain":
                self._remove_domain(resource.id)
        filters = [{"Name": "vpc-id", "Values": [vpc]}]

        def is_free() -> bool:
            listed = self.aws.listed(
                "ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=filters
            )
            return all(interface.get("InterfaceType", "").endswith("endpoint") for interface in listed)

        self._until(f"services hold interfaces in {vpc}", is_free)

    # --- what no stack deletes ----------------------------------------------------------------------------
    def _left(self) -> list[Recorded]:
        """Return the resources that deleted stacks retained, by CloudFormation's record."""
        recorded = [resource for stack in self._stacks() for resource in self._resources(stack)]
        return [item for item in recorded if item.gone_at is not None and item.status != _GONE]

    def _sweep(self) -> Iterator[Kept]:
        """Delete what the stacks retained; yield what stays, and why.

        Buckets go first, keys last: the key of a bucket that stays is kept, too. A remover returns None where
        the resource is deleted.
        """
        retained = self._left()
        buckets: dict[str, Kept] = {}
        bucket_of_key: dict[str, Kept] = {}
        for resource in retained:
            if resource.kind == _BUCKET and (kept := self._remove_bucket(resource)):
                buckets[resource.id] = kept
                bucket_of_key[self._key_of(resource.id)] = kept
        yield from buckets.values()
        removers: Mapping[str, Callable[[str], Kept | None]] = {
            "AWS::Backup::BackupVault": self._remove_vault,
            "AWS::DynamoDB::Table": self._remove_table,
            "AWS::Logs::LogGroup": self._remove_log_group,
            "AWS::OpenSearchService::Domain": self._remove_domain,
        }
        for resource in retained:
            if resource.kind in removers and (kept := removers[resource.kind](resource.id)):
                yield kept
        self._remove_names()
        for resource in retained:
            if resource.kind == "AWS::KMS::Key" and (kept := self._remove_key(resource.id, bucket_of_key)):
                yield kept

    def _remove_names(self) -> None:
        """Delete secrets and parameters. Their names are fixed, so the next deployment of the tenant could
        not make its own, under its own key."""
        for secret in self._secrets():
            secret_id = {"SecretId": secret["ARN"]}
            if "DeletedDate" in secret:  # one that waits for its deletion holds its name
                self.aws.call("secretsmanager", "restore_secret", **secret_id)
            self.aws.call("secretsmanager", "delete_secret", **secret_id, ForceDeleteWithoutRecovery=True)
            self.gone.add(secret["ARN"])
        names = self._parameters()
        for start in range(0, len(names), _MOST_PARAMETERS):
            self.aws.call("ssm", "delete_parameters", Names=names[start : start + _MOST_PARAMETERS])

    def _secrets(self) -> list[Mapping[str, Any]]:
        """Return the tenant's secrets, also those that wait for their deletion."""
        prefix = self.parameters.removeprefix("/")
        filters = [{"Key": "name", "Values": [prefix]}]
        listed = self.aws.listed(
            "secretsmanager", "list_secrets", "SecretList", Filters=filters, IncludePlannedDeletion=True
        )
        return [secret for secret in listed if secret["Name"].startswith(prefix)]

    def _parameters(self) -> list[str]:
        """Return the names of the tenant's SSM parameters."""
        given = {"Path": self.parameters, "Recursive": True}
        return [
            item["Name"] for item in self.aws.listed("ssm", "get_parameters_by_path", "Parameters", **given)
        ]

    def _lock(self, bucket: str) -> tuple[str, timedelta] | None:
        """Return what locks a bucket's new objects, and for how long: ``("object lock, governance, 30 days",
        30 days)``. None where nothing does."""
        configuration = self.aws.call(
            "s3",
            "get_object_lock_configuration",
            missing=("ObjectLockConfigurationNotFoundError", "NoSuchBucket"),
            Bucket=bucket,
        )
        rule = configuration and configuration["ObjectLockConfiguration"].get("Rule")
        if not rule:
            return None
        retention = rule["DefaultRetention"]
        days = retention.get("Days", 0) + 366 * retention.get("Years", 0)
        return f"object lock, {retention['Mode'].lower()}, {days} days", timedelta(days=days)

    def _remove_bucket(self, bucket: Recorded) -> Kept | None:
        """Delete a bucket with every version in it. Return why it stays where a lock may still hold an
        object: counted from the deletion of its stack, since nothing has written to it after that."""
        name, lock = bucket.id, self._lock(bucket.id)
        until = lock and (bucket.gone_at or datetime.now(UTC)) + lock[1]
        for _ in range(_ATTEMPTS):
            if self._is_deleted(name):
                self.gone.add(name)
                return None
            if lock and until and until > datetime.now(UTC):
                return Kept(what=name, why=lock[0], until=until)
            if held := self._empty(name):
                return Kept(
                    what=name, why=f"{held} versions are under a lock or hold of their own", until=None
                )
        return None  # something writes to it, like S3's delivery of access logs: an orphan until the next run

    def _is_deleted(self, bucket: str) -> bool:
        """Delete the bucket, or find it deleted; False where it is not empty."""
        try:
            self.aws.call("s3", "delete_bucket", missing="NoSuchBucket", Bucket=bucket)
        except DeploymentError as error:
            if "BucketNotEmpty" not in error.message:
                raise
            return False
        return True

    def _empty(self, bucket: str) -> int:
        """Delete every version that nothing locks; return how many stay. The bucket's policy is deleted
        first: it lets only the tenant's processes list the bucket."""
        self.aws.call("s3", "delete_bucket_policy", missing="NoSuchBucket", Bucket=bucket)
        held = 0
        for page in self.aws.pages("s3", "list_object_versions", Bucket=bucket):
            versions = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            keys = [{name: version[name] for name in ("Key", "VersionId")} for version in versions]
            if keys:
                deletion = {"Bucket": bucket, "Delete": {"Objects": keys, "Quiet": True}}
                held += len(self.aws.call("s3", "delete_objects", **deletion).get("Errors", ()))
        return held

    def _key_of(self, bucket: str) -> str:
        """Return the id of the KMS key that encrypts a bucket; "" where none does."""
        encryption = self.aws.call("s3", "get_bucket_encryption", Bucket=bucket)
        (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
        key = rule["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID", "")
        return key.rpartition("/")[2]

    def _remove_table(self, table: str) -> Kept | None:
        """Delete a table. Return the backup that DynamoDB keeps of it; None where an earlier run deleted
        it."""
        absent = "ResourceNotFoundException"

        def described() -> Mapping[str, Any] | None:
            answer = self.aws.call("dynamodb", "describe_table", missing=absent, TableName=table)
            return answer and answer["Table"]

        self._until(f"{table} is changing", lambda: (described() or {}).get("TableStatus") != "UPDATING")
        table_now = described()
        if table_now is not None:
            if table_now.get("DeletionProtectionEnabled"):
                self.aws.call("dynamodb", "update_table", TableName=table, DeletionProtectionEnabled=False)
            self.aws.call("dynamodb", "delete_table", missing=absent, TableName=table)
        self.gone.add(table)
        if table_now is None:
            return None
        until = datetime.now(UTC) + timedelta(days=_BACKUP_DAYS)
        return Kept(what=f"backup of {table}", why="DynamoDB's own, at no cost", until=until)

    def _remove_vault(self, vault: str) -> Kept | None:
        """Delete a vault of AWS Backup, unless it has recovery points: nobody can delete those before their
        end."""
        self.gone.add(vault)
        vaults = self.aws.listed("backup", "list_backup_vaults", "BackupVaultList")
        if vault not in [listed["BackupVaultName"] for listed in vaults]:
            return None
        given = {"BackupVaultName": vault}
        points = self.aws.listed("backup", "list_recovery_points_by_backup_vault", "RecoveryPoints", **given)
        if not points:
            self.aws.call("backup", "delete_backup_vault", **given)
            return None
        self.gone.update(point["RecoveryPointArn"] for point in points)
        ends = [point.get("CalculatedLifecycle", {}).get("DeleteAt") for point in points]
        until = None if None in ends else max(ends)
        return Kept(what=f"vault {vault}", why=f"{len(points)} recovery points", until=until)

    def _remove_log_group(self, name: str) -> None:
        self.aws.call("logs", "delete_log_group", missing="ResourceNotFoundException", logGroupName=name)
        self.gone.add(name)

    def _remove_domain(self, name: str) -> None:
        """Delete a search domain, and wait until it is gone."""
        absent = "ResourceNotFoundException"
        self.aws.call("opensearch", "delete_domain", missing=absent, DomainName=name)
        self._until(
            f"domain {name} is being deleted",
            lambda: self.aws.call("opensearch", "describe_domain", missing=absent, DomainName=name) is None,
        )
        self.gone.add(name)

    def _remove_key(self, key: str, bucket_of_key: Mapping[str, Kept]) -> Kept | None:
        """Schedule a key's deletion, unless it encrypts a bucket that stays. ``bucket_of_key``: such buckets
        by the id of their key."""
        if key in bucket_of_key:
            bucket = bucket_of_key[key]
            return Kept(what=f"key {key}", why=f"opens {bucket.what}", until=bucket.until)
        described = self.aws.call("kms", "describe_key", missing="NotFoundException", KeyId=key)
        if described is None:
            self.gone.add(key)
            return None
        until = described["KeyMetadata"].get("DeletionDate")
        if until is None:
            scheduled = self.aws.call(
                "kms", "schedule_key_deletion", KeyId=key, PendingWindowInDays=_KEY_WAIT_DAYS
            )
            until = scheduled["DeletionDate"]
        return Kept(what=f"key {key}", why="waits for its deletion, which can be cancelled", until=until)

    # --- the end ------------------------------------------------------------------------------------------
    def _orphans(self, kept: Sequence[Kept]) -> list[str]:
        """Return the ARNs with the tenant's tag that are neither deleted nor in ``kept``.

        AWS lists a deleted resource by its tags for a while, so those of CloudFormation's record and of
        ``gone`` are left out: by ARN, or by the id at its end. Of ``kept`` the id is the last word of
        ``what`` ("vault NAME").
        """
        recorded = [resource for stack in self._stacks() for resource in self._resources(stack)]
        known = {resource.id for resource in recorded if resource.status == _GONE} | self.gone
        known |= {thing.what.rpartition(" ")[2] for thing in kept}
        filters = [{"Key": "tenant", "Values": [self.tenant]}]
        listed = self.aws.listed(
            "resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", TagFilters=filters
        )
        arns = sorted(tagged["ResourceARN"] for tagged in listed)
        return [arn for arn in arns if arn not in known and not _possible_ids(arn) & known]

    def _until(self, state: str, is_over: Callable[[], bool]) -> None:
        wait_until(state, is_over, poll_s=self.poll_s, limit_s=self.limit_s)


def _possible_ids(arn: str) -> set[str]:
    """Return the parts at the end of an ARN that may be the resource's physical id.

    ``arn:aws:dynamodb:us-east-1:123456789012:table/Records`` → ``{"table/Records", "Records"}``. Which part
    it is differs by service.
    """
    resource = arn.split(":", 5)[-1].removesuffix(":*")
    return {resource, resource.partition("/")[2], resource.rpartition("/")[2], resource.partition(":")[2]}


def run_cdk(root: Path, arguments: Sequence[str], *, limit_s: float) -> bool:
    """Run cdk in a clone; return whether it succeeded. It ends with this process, however that ends. Raises
    ConfigurationError where cdk is not installed, DeploymentError after ``limit_s``."""
    command, environment = cdk_call(root, arguments)
    with subprocess.Popen(
        ["/bin/sh", "-c", _ENDS_WITH_US, "cdk", *command],
        cwd=root,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=STANDARD_ERROR,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(limit_s) == 0
        except subprocess.TimeoutExpired:
            raise DeploymentError(
                f"cdk {arguments[0]} did not end within {limit_s:.0f} s. Run the command again."
            ) from None
