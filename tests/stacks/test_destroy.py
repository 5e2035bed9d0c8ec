"""``assistant aws destroy`` on an account of the synthesized templates, whose resources resist.

The account is real HTTP, with botocore's own service models on the wire.
moto deletes whatever it is asked to. What resists here, with the page of its error:

- both load balancers' deletion protection: ``OperationNotPermitted``
  (docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeleteLoadBalancer.html)
- an endpoint service with a connection: ``ExistingVpcEndpointConnections``
  (docs.aws.amazon.com/vpc/latest/privatelink/configure-endpoint-service.html, Delete an endpoint service)
- subnets and groups in which a domain holds interfaces: ``DependencyViolation``
  (docs.aws.amazon.com/vpc/latest/userguide/delete-vpc.html)
- a bucket with versions: ``BucketNotEmpty``; a version under a lock: ``AccessDenied``
  (docs.aws.amazon.com/AmazonS3/latest/userguide/delete-bucket.html, object-lock-managing.html)
- a log group, secret or parameter of a fixed name that stayed: the next deployment's ``AlreadyExists``; a
  secret that waits for its deletion keeps its name
  (docs.aws.amazon.com/secretsmanager/latest/userguide/manage_delete-secret.html)
- the link secret, encrypted by a key that the new deployment's tasks may not use
- an endpoint that is ``Updating`` (docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeleteEndpoint.html)
- a table with deletion protection: ``ValidationException``
  (docs.aws.amazon.com/amazondynamodb/latest/developerguide/WorkingWithTables.Basics.html)
- a stack with termination protection, or in ``DELETE_FAILED``: only there CloudFormation forces a deletion
  (docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DeleteStack.html)

Not emulated: IAM, and how long anything takes: a change is over after a few looks at it.
"""
# pyright: basic

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from moto.core.request import Request
from typer.testing import CliRunner
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from assistant.cli.aws.destroying import Destruction, Ended, run_cdk
from assistant.cli.main import app
from assistant.domain.errors import DeploymentError
from assistant.terminal.account import AwsAccount
from assistant.terminal.terminal import Terminal
from template_checks.upgrades import templates_by_stack_name
from tests.stacks.delivery_roles import GITHUB_ROLES, NONE, OPERATOR, data_key, policies_of, refused
from tests.stacks.emulated_account import ACCOUNT
from tests.stacks.synthesized import ROOT
from tests.stage.aws_calls import Call, read_operation, serialized, signed_by

# --- an account to leave ----------------------------------------------------------------------------------
REGION = "us-east-1"
_BY_TEMPLATE = {
    "AWS::Backup::BackupVault": "backup:{}:backup-vault:{}",
    "AWS::DynamoDB::Table": "dynamodb:{}:table/{}",
    "AWS::EC2::SecurityGroup": "ec2:{}:security-group/{}",
    "AWS::EC2::Subnet": "ec2:{}:subnet/{}",
    "AWS::EC2::VPC": "ec2:{}:vpc/{}",
    "AWS::EC2::VPCEndpointService": "ec2:{}:vpc-endpoint-service/{}",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": "",
    "AWS::KMS::Key": "kms:{}:key/{}",
    "AWS::Logs::LogGroup": "logs:{}:log-group:{}",
    "AWS::OpenSearchService::Domain": "es:{}:domain/{}",
    "AWS::S3::Bucket": "s3:::{}",
    "AWS::SageMaker::Endpoint": "",
    "AWS::SecretsManager::Secret": "",
}
"""The types whose resources exist outside their stack, and how their ARNs end; "" where the id is the ARN."""
_NAMES = (
    "TableName", "LogGroupName", "DomainName", "BucketName", "EndpointName", "Name",
)  # fmt: skip


class Refusal(Exception):
    """An error that a service answers, by its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass
class Thing:
    """A resource that exists by itself."""

    kind: str
    id: str
    properties: dict[str, Any]
    tenant: str = ""
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class Recorded:
    logical_id: str
    kind: str
    id: str
    policy: str
    status: str = "CREATE_COMPLETE"


@dataclass
class Stack:
    name: str
    id: str
    created: datetime
    resources: list[Recorded]
    outputs: dict[str, str]
    status: str = "CREATE_COMPLETE"
    protected: bool = True
    looks: int = 0
    deleted: datetime | None = None
    forced: bool = False


class LeavingAccount:
    """The account's state, which a test reads and changes, and the operations that clients call."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.things: dict[tuple[str, str], Thing] = {}
        self.stacks: list[Stack] = []
        self.parameters: dict[str, str] = {}
        """Name → the id of the key that encrypts it."""
        self.interfaces: dict[str, dict[str, Any]] = {}
        self.listed_by_tag: dict[str, str] = {}
        """ARN → tenant, also of what is deleted: AWS lists that for a while."""
        self.calls: list[str] = []
        self.made: list[Call] = []
        """The same calls, with what was given."""
        self.hold: Callable[[str], None] = lambda call: None
        """Called before each call is carried out."""
        self.looks = 2
        """After so many looks a change is over."""
        self.now = datetime.now(UTC)
        self._numbers = itertools.count(1)

    # --- deploying ----------------------------------------------------------------------------------------
    def deploy(self, templates: Mapping[str, Mapping[str, Any]], *, tenant: str) -> None:
        """Create stacks from templates, in their order, and what a deployment makes beside them."""
        for name, template in templates.items():
            number = next(self._numbers)
            created = self.now + timedelta(seconds=number)
            stack_id = f"arn:aws:cloudformation:{REGION}:{self.account}:stack/{name}/{number}"
            stack = Stack(name=name, id=stack_id, created=created, resources=[], outputs={})
            ids: dict[str, str] = {}
            for logical_id, resource in template["Resources"].items():
                kind, properties = resource["Type"], resource.get("Properties", {})
                named = next(
                    (properties[key] for key in _NAMES if isinstance(properties.get(key), str)), None
                )
                generated = f"{name}-{logical_id}-{number}"
                generated = f"recovery-{number}" if kind == "AWS::Backup::BackupVault" else generated
                generated = generated.lower() if kind == "AWS::S3::Bucket" else generated
                made = ids[logical_id] = self._id(kind, named or generated)
                policy = resource.get("DeletionPolicy", "Delete")
                stack.resources.append(Recorded(logical_id, kind, made, policy))
                if kind in _BY_TEMPLATE:
                    self._make(kind, made, properties, tenant=tenant, ids=ids)
            for output, given in template.get("Outputs", {}).items():
                value = given["Value"]
                logical_id = (
                    value.get("Ref") or value.get("Fn::GetAtt", [""])[0] if isinstance(value, dict) else ""
                )
                stack.outputs[output] = ids.get(logical_id, "")
            self.stacks.append(stack)
        data_key = self._current_key()
        for name in ("document-links", "power", "jwks", "pseudonym-users", "pseudonym-customers"):
            self.parameters.setdefault(f"/assistant/{tenant}/{name}", data_key)

    def _id(self, kind: str, name: str) -> str:
        prefixes = {
            "AWS::ElasticLoadBalancingV2::LoadBalancer": "elasticloadbalancing:{}:loadbalancer/app/{}/1",
            "AWS::SageMaker::Endpoint": "sagemaker:{}:endpoint/{}",
            "AWS::SecretsManager::Secret": "secretsmanager:{}:secret:{}-AbCdEf",
        }
        if kind in prefixes:
            return "arn:aws:" + prefixes[kind].format(f"{REGION}:{self.account}", name)
        return name

    def _make(
        self, kind: str, made: str, properties: dict[str, Any], *, tenant: str, ids: Mapping[str, str]
    ) -> None:
        if (kind, made) in self.things:
            raise AssertionError(f"Resource of type {kind} with identifier {made} already exists.")
        thing = self.things[kind, made] = Thing(kind, made, properties, tenant)
        self.listed_by_tag[self.arn(thing)] = tenant
        match kind:
            case "AWS::S3::Bucket":
                lock = properties.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
                thing.state = {
                    "versions": {},
                    "lock": lock,
                    "policy": True,
                    "key": self._resolved(properties),
                }
            case "AWS::EC2::VPCEndpointService":
                thing.state = {"connections": {f"vpce-{next(self._numbers):08x}": "available"}}
            case "AWS::OpenSearchService::Domain":
                thing.state = {"looks": 0, "deleting": False}
                for number in range(3):
                    self.interfaces[f"eni-{made}-{number}"] = {"domain": made, "looks": 0}
            case "AWS::ElasticLoadBalancingV2::LoadBalancer":
                given = {each["Key"]: each["Value"] for each in properties.get("LoadBalancerAttributes", [])}
                thing.state = {"protected": given.get("deletion_protection.enabled") == "true"}
            case "AWS::DynamoDB::Table":
                thing.state = {"protected": properties.get("DeletionProtectionEnabled", False)}
            case "AWS::SageMaker::Endpoint":
                thing.state = {"status": "InService", "looks": 0}
            case "AWS::Backup::BackupVault":
                thing.state = {"points": {}}
            case "AWS::KMS::Key" | "AWS::SecretsManager::Secret":
                thing.state = {}

    def _resolved(self, properties: Mapping[str, Any]) -> str:
        """Return the id of the key of a bucket, by the keys stack's output."""
        text = json.dumps(properties.get("BucketEncryption", {}))
        output = re.search(r'"OutputName": "(\w+)"', text)
        standing = [stack for stack in self.stacks if stack.status != "DELETE_COMPLETE"]
        return next((s.outputs[output[1]] for s in standing if output and output[1] in s.outputs), "")

    def _current_key(self) -> str:
        keys = next(stack for stack in reversed(self.stacks) if stack.name.endswith("-Keys"))
        return next(each.id for each in keys.resources if each.logical_id == "DataKey")

    def fill(self, bucket: str, versions: int) -> None:
        """Put versions into a bucket; a locked bucket locks each from now on."""
        thing = self.things["AWS::S3::Bucket", bucket]
        lock = thing.state["lock"]
        until = self.now + timedelta(days=lock["Days"]) if lock else None
        thing.state["versions"] |= {f"v{number:06d}": until for number in range(versions)}

    def of_kind(self, kind: str) -> list[Thing]:
        return [thing for thing in self.things.values() if thing.kind == kind]

    def answers(self, tenant: str) -> bool:
        """Whether a deployed tenant's tasks start: they read the link secret by the current data key."""
        key = self._current_key()
        return (
            self.parameters.get(f"/assistant/{tenant}/document-links") == key
            and "deleted" not in self.things["AWS::KMS::Key", key].state
            and bool(self.of_kind("AWS::OpenSearchService::Domain"))
        )

    def arn(self, thing: Thing) -> str:
        ending = _BY_TEMPLATE[thing.kind]
        if not ending:
            return thing.id
        return "arn:aws:" + ending.format(
            *([f"{REGION}:{self.account}"] if "{}:" in ending else []), thing.id
        )

    # --- deleting -----------------------------------------------------------------------------------------
    def _resists(self, resource: Recorded) -> str:
        thing = self.things.get((resource.kind, resource.id))
        state = thing.state if thing else {}
        match resource.kind:
            case "AWS::ElasticLoadBalancingV2::LoadBalancer" if state.get("protected"):
                return "OperationNotPermitted: cannot be deleted because deletion protection is enabled"
            case "AWS::DynamoDB::Table" if state.get("protected"):
                return "ValidationException: Resource cannot be deleted as it is currently protected"
            case "AWS::EC2::VPCEndpointService" if "available" in state.get("connections", {}).values():
                return "ExistingVpcEndpointConnections: Service has existing active VPC Endpoint connections!"
            case "AWS::EC2::Subnet" | "AWS::EC2::SecurityGroup" | "AWS::EC2::VPC" if self.interfaces:
                return f"DependencyViolation: {resource.id} has dependencies and cannot be deleted."
            case "AWS::S3::Bucket" if state.get("versions"):
                return "BucketNotEmpty: The bucket you tried to delete is not empty."
            case "AWS::SageMaker::Endpoint" if state.get("status") == "Updating":
                return "ValidationException: Cannot update in-progress endpoint"
            case _:
                return ""

    def _delete(self, stack: Stack) -> None:
        for resource in stack.resources:
            if resource.status == "DELETE_COMPLETE":
                continue
            if resource.policy.startswith("Retain"):
                resource.status = "DELETE_SKIPPED"
            elif self._resists(resource):
                resource.status = "DELETE_SKIPPED" if stack.forced else "DELETE_FAILED"
            else:
                resource.status = "DELETE_COMPLETE"
                self.things.pop((resource.kind, resource.id), None)
        failed = any(resource.status == "DELETE_FAILED" for resource in stack.resources)
        stack.status = "DELETE_FAILED" if failed else "DELETE_COMPLETE"
        stack.deleted = None if failed else self.now

    # --- operations ---------------------------------------------------------------------------------------
    def sts_get_caller_identity(self, given: Any) -> Any:
        return {"Account": self.account, "Arn": f"arn:aws:iam::{self.account}:user/operator", "UserId": "A"}

    def cloudformation_list_stacks(self, given: Any) -> Any:
        return {
            "StackSummaries": [
                {
                    "StackId": stack.id,
                    "StackName": stack.name,
                    "CreationTime": stack.created,
                    "StackStatus": stack.status,
                    **({"DeletionTime": stack.deleted} if stack.deleted else {}),
                }
                for stack in self.stacks
            ]
        }

    def _stack(self, given: Any) -> Stack:
        name = given["StackName"]
        standing = [each for each in self.stacks if each.name == name and each.status != "DELETE_COMPLETE"]
        found = [*standing, *(each for each in self.stacks if each.id == name)]
        if not found:
            raise Refusal("ValidationError", f"Stack with id {name} does not exist")
        return found[0]

    def cloudformation_describe_stack_events(self, given: Any) -> Any:
        return {"StackEvents": []}

    def cloudformation_list_stack_resources(self, given: Any) -> Any:
        listed = [
            {
                "LogicalResourceId": each.logical_id,
                "PhysicalResourceId": each.id,
                "ResourceType": each.kind,
                "ResourceStatus": each.status,
                "LastUpdatedTimestamp": self.now,
            }
            for each in self._stack(given).resources
        ]
        return {"StackResourceSummaries": listed}

    def cloudformation_describe_stacks(self, given: Any) -> Any:
        stack = self._stack(given)
        if stack.status.endswith("_IN_PROGRESS"):
            stack.looks += 1
            if stack.looks >= self.looks:
                stack.looks = 0
                if stack.status == "DELETE_IN_PROGRESS":
                    self._delete(stack)
                else:
                    stack.status = "UPDATE_COMPLETE"
        described = {"StackName": stack.name, "StackId": stack.id, "CreationTime": stack.created}
        return {"Stacks": [{**described, "StackStatus": stack.status}]}

    def cloudformation_update_termination_protection(self, given: Any) -> Any:
        self._stack(given).protected = given["EnableTerminationProtection"]
        return {}

    def cloudformation_delete_stack(self, given: Any) -> Any:
        try:
            stack, forced = self._stack(given), given.get("DeletionMode") == "FORCE_DELETE_STACK"
        except Refusal:
            return {}  # there is nothing to delete
        if stack.protected:
            raise Refusal(
                "ValidationError",
                f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled",
            )
        if forced and stack.status != "DELETE_FAILED":
            raise Refusal("ValidationError", "a deletion is forced only when the stack is in DELETE_FAILED")
        if stack.status not in ("DELETE_COMPLETE", "DELETE_IN_PROGRESS"):
            stack.status, stack.forced = "DELETE_IN_PROGRESS", forced
        return {}

    def elbv2_modify_load_balancer_attributes(self, given: Any) -> Any:
        thing = self._thing(
            "AWS::ElasticLoadBalancingV2::LoadBalancer", given["LoadBalancerArn"], "LoadBalancerNotFound"
        )
        thing.state["protected"] = given["Attributes"][0]["Value"] == "true"
        return {"Attributes": given["Attributes"]}

    def _thing(self, kind: str, made: str, missing: str) -> Thing:
        if (kind, made) not in self.things:
            raise Refusal(missing, f"{made} does not exist")
        return self.things[kind, made]

    def ec2_describe_vpc_endpoint_connections(self, given: Any) -> Any:
        (service,) = given["Filters"][0]["Values"]
        found = self.things.get(("AWS::EC2::VPCEndpointService", service))
        connections = found.state["connections"] if found else {}
        listed = [
            {"ServiceId": service, "VpcEndpointId": made, "VpcEndpointState": state}
            for made, state in connections.items()
        ]
        return {"VpcEndpointConnections": listed}

    def ec2_reject_vpc_endpoint_connections(self, given: Any) -> Any:
        thing = self.things["AWS::EC2::VPCEndpointService", given["ServiceId"]]
        thing.state["connections"] |= dict.fromkeys(given["VpcEndpointIds"], "rejected")
        return {"Unsuccessful": []}

    def ec2_describe_network_interfaces(self, given: Any) -> Any:
        for name, interface in list(self.interfaces.items()):
            if ("AWS::OpenSearchService::Domain", interface["domain"]) not in self.things:
                interface["looks"] += 1
                if interface["looks"] >= self.looks:
                    del self.interfaces[name]
        listed = [{"NetworkInterfaceId": name, "InterfaceType": "interface"} for name in self.interfaces]
        listed.append({"NetworkInterfaceId": "eni-of-an-endpoint", "InterfaceType": "vpc_endpoint"})
        return {"NetworkInterfaces": listed}

    def backup_list_backup_vaults(self, given: Any) -> Any:
        named = [{"BackupVaultName": each.id} for each in self.of_kind("AWS::Backup::BackupVault")]
        return {"BackupVaultList": named}

    def _vault(self, given: Any) -> Thing:
        return self._thing("AWS::Backup::BackupVault", given["BackupVaultName"], "ResourceNotFoundException")

    def backup_list_recovery_points_by_backup_vault(self, given: Any) -> Any:
        listed = [
            {
                "RecoveryPointArn": arn,
                "ResourceArn": "arn:aws:s3:::documents",
                "CreationDate": ends - timedelta(days=35),
                "CalculatedLifecycle": {"DeleteAt": ends},
                "Status": "COMPLETED",
            }
            for arn, ends in self._vault(given).state["points"].items()
        ]
        return {"RecoveryPoints": listed}

    def backup_delete_backup_vault(self, given: Any) -> Any:
        vault = self._vault(given)
        if vault.state["points"]:
            raise Refusal(
                "InvalidRequestException",
                "Backup vault cannot be deleted because it contains recovery points.",
            )
        del self.things[vault.kind, vault.id]
        return {}

    def sagemaker_describe_endpoint(self, given: Any) -> Any:
        ending = f":endpoint/{given['EndpointName']}"
        found = [each for each in self.of_kind("AWS::SageMaker::Endpoint") if each.id.endswith(ending)]
        if not found:
            raise Refusal("ValidationException", f"Could not find endpoint {given['EndpointName']}")
        state = found[0].state
        if state["status"] == "Updating":
            state["looks"] += 1
            state["status"] = "InService" if state["looks"] >= self.looks else "Updating"
        named = {"EndpointName": given["EndpointName"], "EndpointArn": found[0].id}
        return {
            **named,
            "EndpointStatus": state["status"],
            "CreationTime": self.now,
            "LastModifiedTime": self.now,
        }

    def _bucket(self, given: Any) -> dict[str, Any]:
        return self._thing("AWS::S3::Bucket", given["Bucket"], "NoSuchBucket").state

    def s3_get_object_lock_configuration(self, given: Any) -> Any:
        lock = self._bucket(given)["lock"]
        if not lock:
            raise Refusal("ObjectLockConfigurationNotFoundError", "it does not exist for this bucket")
        return {
            "ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": lock}}
        }

    def s3_get_bucket_encryption(self, given: Any) -> Any:
        key = f"arn:aws:kms:{REGION}:{self.account}:key/{self._bucket(given)['key']}"
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        rules = [{"ApplyServerSideEncryptionByDefault": default}]
        return {"ServerSideEncryptionConfiguration": {"Rules": rules}}

    def s3_delete_bucket(self, given: Any) -> Any:
        if self._bucket(given)["versions"]:
            raise Refusal("BucketNotEmpty", "The bucket you tried to delete is not empty")
        del self.things["AWS::S3::Bucket", given["Bucket"]]

    def s3_delete_bucket_policy(self, given: Any) -> Any:
        self._bucket(given)["policy"] = False

    def _seen(self, given: Any) -> dict[str, datetime | None]:
        """Return a bucket's versions to a caller that its policy does not refuse as a stranger."""
        state = self._bucket(given)
        if state["policy"]:
            raise Refusal("AccessDenied", "explicit deny in a resource-based policy")
        return state["versions"]

    def s3_list_object_versions(self, given: Any) -> Any:
        names = sorted(self._seen(given))
        names = [name for name in names if name > (given.get("KeyMarker") or "")]
        shown = names[:1000]
        more = {"NextKeyMarker": shown[-1], "NextVersionIdMarker": "1"} if len(names) > 1000 else {}
        versions = [{"Key": name, "VersionId": "1"} for name in shown[1:]]
        markers = [{"Key": name, "VersionId": "1"} for name in shown[:1]]
        return {"IsTruncated": bool(more), **more, "Versions": versions, "DeleteMarkers": markers}

    def s3_delete_objects(self, given: Any) -> Any:
        versions, errors = self._seen(given), []
        for each in given["Delete"]["Objects"]:
            until = versions.get(each["Key"])
            if until and until > self.now:
                errors.append({**each, "Code": "AccessDenied", "Message": "protected by object lock"})
            else:
                versions.pop(each["Key"], None)
        return {"Errors": errors}

    def _table(self, given: Any) -> Thing:
        return self._thing("AWS::DynamoDB::Table", given["TableName"], "ResourceNotFoundException")

    def dynamodb_describe_table(self, given: Any) -> Any:
        protected = self._table(given).state["protected"]
        return {"Table": {"TableStatus": "ACTIVE", "DeletionProtectionEnabled": protected}}

    def dynamodb_update_table(self, given: Any) -> Any:
        self._table(given).state["protected"] = given["DeletionProtectionEnabled"]
        return {}

    def dynamodb_delete_table(self, given: Any) -> Any:
        if self._table(given).state["protected"]:
            raise Refusal("ValidationException", "it is protected against deletion")
        del self.things["AWS::DynamoDB::Table", given["TableName"]]
        return {}

    def logs_delete_log_group(self, given: Any) -> Any:
        self._thing("AWS::Logs::LogGroup", given["logGroupName"], "ResourceNotFoundException")
        del self.things["AWS::Logs::LogGroup", given["logGroupName"]]

    def opensearch_delete_domain(self, given: Any) -> Any:
        domain = self._thing(
            "AWS::OpenSearchService::Domain", given["DomainName"], "ResourceNotFoundException"
        )
        domain.state["deleting"] = True
        return {}

    def opensearch_describe_domain(self, given: Any) -> Any:
        domain = self._thing(
            "AWS::OpenSearchService::Domain", given["DomainName"], "ResourceNotFoundException"
        )
        if domain.state["deleting"]:
            domain.state["looks"] += 1
            if domain.state["looks"] >= self.looks:
                del self.things[domain.kind, domain.id]
                raise Refusal("ResourceNotFoundException", f"{domain.id} does not exist")
        return {
            "DomainStatus": {
                "DomainId": "1",
                "DomainName": domain.id,
                "ARN": self.arn(domain),
                "ClusterConfig": {},
            }
        }

    def secretsmanager_list_secrets(self, given: Any) -> Any:
        listed = []
        for thing in self.of_kind("AWS::SecretsManager::Secret"):
            deleted = thing.state.get("deleted")
            if deleted is None or given.get("IncludePlannedDeletion"):
                date = {"DeletedDate": deleted} if deleted else {}
                listed.append({"ARN": thing.id, "Name": thing.properties["Name"], **date})
        return {"SecretList": listed}

    def secretsmanager_restore_secret(self, given: Any) -> Any:
        self.things["AWS::SecretsManager::Secret", given["SecretId"]].state.pop("deleted", None)
        return {}

    def secretsmanager_delete_secret(self, given: Any) -> Any:
        thing = self.things["AWS::SecretsManager::Secret", given["SecretId"]]
        if thing.state.get("deleted"):
            raise Refusal("InvalidRequestException", "it was scheduled for deletion")
        if given.get("ForceDeleteWithoutRecovery"):
            del self.things[thing.kind, thing.id]
        else:
            thing.state["deleted"] = self.now
        return {}

    def ssm_get_parameters_by_path(self, given: Any) -> Any:
        return {"Parameters": [{"Name": name} for name in self.parameters if name.startswith(given["Path"])]}

    def ssm_delete_parameters(self, given: Any) -> Any:
        for name in given["Names"]:
            self.parameters.pop(name, None)
        return {}

    def kms_describe_key(self, given: Any) -> Any:
        thing = self._thing("AWS::KMS::Key", given["KeyId"], "NotFoundException")
        date = {"DeletionDate": thing.state["deleted"]} if "deleted" in thing.state else {}
        return {"KeyMetadata": {"KeyId": thing.id, **date}}

    def kms_schedule_key_deletion(self, given: Any) -> Any:
        thing = self._thing("AWS::KMS::Key", given["KeyId"], "NotFoundException")
        thing.state["deleted"] = self.now + timedelta(days=given["PendingWindowInDays"])
        return {"KeyId": thing.id, "DeletionDate": thing.state["deleted"]}

    def resourcegroupstaggingapi_get_resources(self, given: Any) -> Any:
        (tenant,) = given["TagFilters"][0]["Values"]
        listed = [{"ResourceARN": arn} for arn, owner in self.listed_by_tag.items() if owner == tenant]
        return {"ResourceTagMappingList": listed}

    # --- the wire -----------------------------------------------------------------------------------------
    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        service, operation, given = read_operation(request)
        call = f"{service}_{re.sub(r'(?<!^)(?=[A-Z])', '_', str(operation.name)).lower()}"
        self.hold(call)
        self.calls.append(call)
        key_id, signed = signed_by(request)
        self.made.append(Call(key_id=key_id, service=signed, operation=operation.name, given=given))
        try:
            result: Any = getattr(self, call)(given) or {}
        except Refusal as error:
            result = error
        return serialized(service, operation, result)


class _Quiet(WSGIRequestHandler):
    def log(self, *given: Any) -> None:
        del given


@contextmanager
def leaving_account(account: str) -> Iterator[tuple[LeavingAccount, str]]:
    """Serve an empty account on a free port; gives its state and its URL."""
    emulated = LeavingAccount(account)
    server = make_server("127.0.0.1", 0, emulated, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield emulated, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


# --- tests ------------------------------------------------------------------------------------------------
pytestmark = pytest.mark.loopback
ORDER = (
    *("Keys", "Network", "Data", "Edge", "Models", "Ingestion"),
    *("Orchestrator", "Learning", "Corpus", "Observability"),
)
KILLS = 10
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
BUCKET, LOG_GROUP, SECRET = "AWS::S3::Bucket", "AWS::Logs::LogGroup", "AWS::SecretsManager::Secret"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LeavingAccount, str]]:
    with leaving_account(ACCOUNT) as (account, url):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        for name in CREDENTIALS:
            monkeypatch.setenv(name, "emulated")
        yield account, url


@pytest.fixture
def account(served: tuple[LeavingAccount, str]) -> LeavingAccount:
    return served[0]


def deploy(account: LeavingAccount, assembly: Path, tenant: str = "pharmacy") -> None:
    """Deploy a tenant as synthesized, and let it have worked a while."""
    templates = templates_by_stack_name(assembly / f"assembly-{tenant.capitalize()}")
    account.deploy(
        {name: templates[name] for part in ORDER if (name := f"assistant-{tenant}-{part}") in templates},
        tenant=tenant,
    )
    for number, bucket in enumerate(account.of_kind(BUCKET)):
        if bucket.tenant == tenant:
            account.fill(bucket.id, 2500 if number == 3 else 3)


def destroys(arguments: Sequence[str]) -> bool:
    """Delete the stacks of an assembly in the order of cdk, by the calls that it makes; stop as it does."""
    artifacts = json.loads((Path(arguments[-2]) / "manifest.json").read_text())["artifacts"]
    aws = AwsAccount(account=ACCOUNT, region=REGION)
    for name in sorted(artifacts, key=lambda name: len(artifacts[name]["dependencies"]), reverse=True):
        aws.call("cloudformation", "delete_stack", StackName=name)
        while described := aws.call(
            "cloudformation", "describe_stacks", missing="ValidationError", StackName=name
        ):
            if described["Stacks"][0]["StackStatus"] == "DELETE_FAILED":
                return False
    return True


CDK = partial(run_cdk, ROOT, limit_s=60.0)
"""The real one."""


def destruction(
    tenant: str = "pharmacy", *, limit_s: float = 30.0, cdk: Callable[[Sequence[str]], bool] = destroys
) -> Destruction:
    return Destruction(
        aws=AwsAccount(account=ACCOUNT, region=REGION),
        cdk=cdk,
        full_name=f"assistant-{tenant}",
        tenant=tenant,
        parameters=f"/assistant/{tenant}/",
        terminal=Terminal(),
        poll_s=0.001,
        limit_s=limit_s,
    )


def standing(account: LeavingAccount, tenant: str = "pharmacy") -> set[str]:
    """Return what stands of a tenant, without its keys that wait for their deletion."""
    things = [thing for thing in account.things.values() if thing.tenant == tenant]
    return {thing.id for thing in things if "deleted" not in thing.state}


def whole(account: LeavingAccount, tenant: str) -> dict[str, str]:
    """Return all that the account keeps of a tenant, as text: resources, stacks and parameters."""
    things = {thing.id: repr(thing) for thing in account.things.values() if thing.tenant == tenant}
    stacks = {each.id: repr(each) for each in account.stacks if each.name.startswith(f"assistant-{tenant}-")}
    path = f"/assistant/{tenant}/"
    return things | stacks | {name: key for name, key in account.parameters.items() if name.startswith(path)}


def nothing_unexplained(ended: Ended, account: LeavingAccount, tenant: str = "pharmacy") -> bool:
    kept = {each.what.rpartition(" ")[2] for each in ended.stays}
    return ended.orphans == [] and standing(account, tenant) <= kept


def forget(account: LeavingAccount) -> None:
    account.things, account.stacks, account.parameters = {}, [], {}
    account.interfaces, account.listed_by_tag = {}, {}


def one(account: LeavingAccount, kind: str, part: str) -> Thing:
    (thing,) = [each for each in account.of_kind(kind) if part in each.id]
    return thing


def test_a_hipaa_tenant_is_taken_away_but_for_what_a_lock_keeps(
    account: LeavingAccount, assembly: Path
) -> None:
    deploy(account, assembly)
    ended = destruction().run()
    assert nothing_unexplained(ended, account)
    locked = {each.what for each in ended.stays if "object lock" in each.why}
    assert locked == {one(account, BUCKET, "trailbucket").id, one(account, BUCKET, "labelsbucket").id}
    (trail,) = [each for each in ended.stays if "trailbucket" in each.what and "compliance" in each.why]
    assert trail.until is not None
    assert abs(trail.until - account.now - timedelta(days=2192)) < timedelta(minutes=5)
    # What opens a kept bucket stays with it, and its policy goes on refusing strangers.
    assert one(account, BUCKET, "trailbucket").state["policy"]
    keys = {each.what: each.until for each in ended.stays if each.why.startswith("opens")}
    assert len(keys) == 2
    assert trail.until in keys.values()
    assert account.parameters == {}
    # The operator's policy allows each of its calls, and the roles of the delivery none that takes away.
    key = data_key(assembly, "pharmacy")

    def refused_to(file: Path, name: str, calls: list[Call], *, is_tagged: bool) -> list[str]:
        policies = policies_of(file, name, tenant="pharmacy", account=ACCOUNT) if name else NONE
        return refused(
            calls, policies=policies, tenant="pharmacy", account=ACCOUNT, key=key, is_tagged=is_tagged
        )

    assert refused_to(OPERATOR, "Destroys", account.made, is_tagged=False) == []
    writes = ("Delete", "Schedule", "Modify", "Update")
    takes = [call for call in account.made if call.operation.startswith(writes)]
    every = refused_to(OPERATOR, "", takes, is_tagged=True)
    assert len(every) > 10
    assert refused_to(GITHUB_ROLES, "DiffRole", takes, is_tagged=True) == every
    # cdk sets the protection of a stack that it deploys; without a right to delete stacks that takes nothing.
    protects = [one for one in every if one.startswith("cloudformation:UpdateTerminationProtection ")]
    refused_to_deploy = refused_to(GITHUB_ROLES, "DeployRole", takes, is_tagged=True)
    assert refused_to_deploy == [one for one in every if one not in protects]


def test_a_sandbox_goes_with_all_its_buckets(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly, "sandbox")
    ended = destruction("sandbox").run()
    assert nothing_unexplained(ended, account, "sandbox")
    (kept,) = [each for each in ended.stays if "object lock" in each.why]
    assert "trailbucket" in kept.what
    assert kept.until is not None
    assert kept.until - account.now < timedelta(days=2)
    # When the day is over, the next run takes the rest.
    account.now += timedelta(days=2)
    for stack in account.stacks:
        stack.deleted = account.now - timedelta(days=4)
    assert not [each for each in destruction("sandbox").run().stays if "Bucket" in each.what]
    assert account.of_kind(BUCKET) == []


def test_another_tenant_of_the_account_keeps_everything(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    deploy(account, assembly, "clinic")
    templates = templates_by_stack_name(assembly / "assembly-Clinic")
    # The name of this one begins with the name of the one that goes.
    account.deploy({"assistant-pharmacy-two-Keys": templates["assistant-clinic-Keys"]}, tenant="pharmacy-two")
    before = whole(account, "clinic") | whole(account, "pharmacy-two")
    account.interfaces = {
        name: each for name, each in account.interfaces.items() if "pharmacy" in each["domain"]
    }
    destruction().run()
    assert whole(account, "clinic") | whole(account, "pharmacy-two") == before
    assert [name for name in account.parameters if "clinic" in name]


def test_recovery_points_keep_their_vault_until_the_last_has_ended(
    account: LeavingAccount, assembly: Path
) -> None:
    deploy(account, assembly)
    (vault,) = account.of_kind("AWS::Backup::BackupVault")
    ends = account.now.replace(microsecond=0) + timedelta(days=35)
    points = {
        f"arn:aws:backup:us-east-1:{ACCOUNT}:recovery-point:{n}": ends - timedelta(days=n) for n in (0, 1)
    }
    vault.state["points"] = points
    account.listed_by_tag |= dict.fromkeys(points, "pharmacy")
    ended = destruction().run()
    (kept,) = [each for each in ended.stays if each.what == f"vault {vault.id}"]
    assert (kept.until, kept.why) == (ends, "2 recovery points")
    assert ended.orphans == []
    vault.state["points"] = {}
    assert not [each for each in destruction().run().stays if "vault" in each.what]
    assert account.of_kind("AWS::Backup::BackupVault") == []


def test_an_endpoint_that_is_updating_is_waited_for(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    one(account, "AWS::SageMaker::Endpoint", "llm").state["status"] = "Updating"
    assert nothing_unexplained(destruction().run(), account)
    assert account.calls.index("sagemaker_describe_endpoint") < account.calls.index(
        "opensearch_delete_domain"
    )


def test_a_stack_that_could_not_be_deleted_before_is_deleted(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    network = next(stack for stack in account.stacks if stack.name.endswith("-Network"))
    network.status = "DELETE_FAILED"
    next(each for each in network.resources if each.kind == "AWS::EC2::Subnet").status = "DELETE_FAILED"
    assert nothing_unexplained(destruction().run(), account)


def test_each_stack_that_resists_is_left_to_the_sweep(account: LeavingAccount) -> None:
    account.deploy(
        {
            "assistant-two-Keys": {"Resources": {"DataKey": {"Type": "AWS::KMS::Key"}}},
            "assistant-two-Data": {"Resources": {"Bucket": {"Type": BUCKET}}},
            "assistant-two-Trail": {"Resources": {"Bucket": {"Type": BUCKET}}},
        },
        tenant="two",
    )
    for bucket in account.of_kind(BUCKET):
        account.fill(bucket.id, 3)
    assert nothing_unexplained(destruction("two").run(), account, "two")
    assert standing(account, "two") == set()


def test_an_object_under_a_hold_keeps_its_bucket_and_is_told(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    bucket = one(account, BUCKET, "documentsbucket")
    bucket.state["versions"]["held"] = account.now + timedelta(days=9000)
    (kept,) = [each for each in destruction().run().stays if each.what == bucket.id]
    assert (kept.why, kept.until) == ("1 versions are under a lock or hold of their own", None)
    assert list(bucket.state["versions"]) == ["held"]


def test_what_nobody_recorded_is_told_as_an_orphan_and_stays(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:by-hand"
    account.listed_by_tag[function] = "pharmacy"
    account.things["AWS::Logs::LogGroup", "by-hand"] = Thing(LOG_GROUP, "by-hand", {}, "another")
    account.listed_by_tag[account.arn(account.things[LOG_GROUP, "by-hand"])] = "pharmacy"
    orphans = destruction().run().orphans
    assert orphans == [function, f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:by-hand"]
    assert (LOG_GROUP, "by-hand") in account.things


def test_a_stack_that_resists_for_another_reason_is_named(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    account.interfaces["eni-of-another-team"] = {"domain": "none", "looks": -10_000}
    with pytest.raises(DeploymentError, match=r"services hold interfaces in .* Run the command again"):
        destruction(limit_s=0.5).run()
    del account.interfaces["eni-of-another-team"]
    assert nothing_unexplained(destruction().run(), account)


def test_killed_at_random_calls_it_goes_on_where_it_was(
    served: tuple[LeavingAccount, str], assembly: Path
) -> None:
    account, url = served
    deploy(account, assembly)
    whole = len(account.calls)
    destruction().run()
    whole = len(account.calls) - whole
    forget(account)
    deploy(account, assembly)
    chance = random.Random(23)  # noqa: S311
    for _ in range(KILLS):
        kill_at(account, url, chance.randrange(1, whole // 3), is_carried_out=chance.random() < 0.5)
    ended = destruction().run()
    assert nothing_unexplained(ended, account)
    deploy(account, assembly)
    assert account.answers("pharmacy")


CHILDREN = multiprocessing.get_context("forkserver")
"""Of one process that has imported this module: an import takes seconds."""
CHILDREN.set_forkserver_preload([__name__])


def destroy_at(url: str) -> None:
    os.environ |= {"AWS_ENDPOINT_URL": url, **dict.fromkeys(CREDENTIALS, "emulated")}
    destruction().run()


def kill_at(account: LeavingAccount, url: str, number: int, *, is_carried_out: bool) -> None:
    """Kill a run at its call of this number, whether or not AWS still carries it out; one that ends before is
    a run that had nothing left to do."""
    reached, released = threading.Event(), threading.Event()
    left = [number]

    def hold(call: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            reached.set()
            released.wait(30)
            if not is_carried_out:
                raise ConnectionAbortedError(call)

    account.hold = hold
    process = CHILDREN.Process(target=destroy_at, args=(url,))
    process.start()
    try:
        while not reached.wait(0.05) and process.is_alive():
            pass
    finally:
        process.kill()
        process.join(30)
        assert process.exitcode in (0, -9)
        account.hold = lambda call: None
        released.set()


def test_a_killed_run_ends_cdk_and_the_next_one_ends_the_tenant(
    served: tuple[LeavingAccount, str], assembly: Path
) -> None:
    account, url = served
    account.looks = 1
    deploy(account, assembly, "sandbox")
    reached = threading.Event()

    def hold(call: str) -> None:
        if call == "cloudformation_delete_stack" and not reached.is_set():
            reached.set()
            ended.wait(30)

    account.hold, ended = hold, threading.Event()
    program = "from tests.stacks.test_destroy import CDK, destruction; destruction('sandbox', cdk=CDK).run()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"AWS_ENDPOINT_URL": url}
    )
    try:
        assert reached.wait(60)
        (group,) = [row for row in processes() if row.ppid == process.pid]
        assert any("node" in row.command for row in processes() if row.pgid == group.pid)
    finally:
        process.kill()
        process.wait(30)
    while any(row.pgid == group.pid for row in processes()):
        reached.wait(0.05)
    ended.set()
    assert nothing_unexplained(destruction("sandbox", cdk=CDK).run(), account, "sandbox")


@dataclass(frozen=True)
class Process:
    ppid: int
    pid: int
    pgid: int
    command: str


def processes() -> list[Process]:
    listed = subprocess.run(
        ["ps", "-eo", "ppid=,pid=,pgid=,args="], capture_output=True, text=True, timeout=30, check=True
    )
    rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
    return [Process(int(parent), int(pid), int(group), args) for parent, pid, group, args in rows]


def command(*given: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, ["aws", "destroy", "--tenant", "pharmacy", *given], input=typed)


def test_the_plan_changes_nothing(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    before = standing(account)
    done = CliRunner().invoke(app, ["--json", "aws", "destroy", "--tenant", "pharmacy", "--plan"])
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert plan["stacks"][0] == "assistant-pharmacy-Observability"
    assert plan["stacks"][-1] == "assistant-pharmacy-Keys"
    assert len([each for each in plan["stays"] if "object lock" in each["why"]]) == 2
    assert "/assistant/pharmacy/document-links" in plan["parameters"]
    assert standing(account) == before
    assert not [call for call in account.calls if "delete" in call or "update" in call or "modify" in call]


def test_the_typed_name_is_the_only_question(account: LeavingAccount, assembly: Path) -> None:
    """The command runs the real cdk."""
    deploy(account, assembly)
    account.looks = 0
    done = command(typed="pharmacy\n")
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "object lock, compliance, 2192 days" in done.stdout.replace("\n", " ")
    assert "AWS::EC2::VPC" not in {kind for kind, _ in account.things}
