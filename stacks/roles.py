"""Roles, the tags that identify them in policies, and the statements that several stacks share.

No policy names a role of a later stack: a key or bucket identifies callers by the tenant's tag, the
deployment's roles, and the few principals that the tenant file declares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.tenant.deployed_names import TableDefinition
from assistant.tenant.deployment import ReachEntry
from stacks.outputs import NetworkOutputs, Workload
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Caller, TenantStack

TENANT_TAG = "aws:PrincipalTag/tenant"
"""Condition key: the tag ``tenant`` of the calling role, also when a service calls on its behalf.
``TenantStage`` tags every role of a tenant with its name."""
DUTY_TAG = "aws:PrincipalTag/duty"
"""Condition key: the purpose of the calling role, a ``Duty``."""
INBOX_TAG = "aws:PrincipalTag/inbox"
"""The only folder of the inbox that a pusher's role may put into."""

Conditions = Mapping[str, Mapping[str, Any]]
"""Of a statement: ``{"StringEquals": {"aws:PrincipalTag/tenant": "pharmacy"}}``."""

ONLY_ES256 = {"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256"}}
USE_KEY = ("kms:Decrypt", "kms:GenerateDataKey")
"""Actions of a role that reads and writes what a key encrypts."""


class Duty(StrEnum):
    """Value of the tag ``duty``: the purpose of a role, for stores that admit one kind of role only."""

    CAPTURE_WRITER = "capture-writer"
    """SageMaker's execution role: puts captured calls, reads none."""
    REDACTOR = "redactor"
    """Reads and deletes raw captured calls, puts clean ones."""
    MOVER = "mover"
    """Puts labels and sealed texts of feedback, reads no label."""
    PREPARER = "preparer"
    """Reads labels and sealed texts, to make training sets."""
    PUBLISHER = "publisher"
    """Puts model artifacts."""
    COMPILER = "compiler"
    """Puts what it compiled, for a publisher to promote."""
    PUSHER = "pusher"
    """Puts raw files of another system into its own folder of the inbox, and reads what became of them. Tag
    ``inbox`` names the folder."""
    AUDIT_CLOSER = "audit-closer"
    """Reads audit records, and puts the digests of their days into the locked bucket."""
    BACKUP = "backup"
    """Reads tables and documents for AWS Backup, which alone takes the role."""
    UPLOADER = "uploader"
    """Puts the files that people upload, and what became of them, into the inbox: the orchestrator, and the
    function that reads them."""


def tag_duty(role: iam.Role, duty: Duty) -> None:
    cdk.Tags.of(role).add("duty", duty)


_SENDS_ACCOUNT = ("ecs-tasks.amazonaws.com", "sagemaker.amazonaws.com")
"""Services that send ``aws:SourceAccount`` when they assume a role, by their guides (ECS, *Task IAM role*;
SageMaker, *Cross-service confused deputy prevention*). The guides of Lambda, EMR Serverless and a task's
execution role show no such condition, and one that a service does not meet would stop every start."""


def _of_own_account(scope: Construct) -> dict[str, dict[str, str]]:
    """Return the condition under which a service acts for a resource of this account."""
    return {"StringEquals": {"aws:SourceAccount": cdk.Stack.of(scope).account}}


class WorkloadRole(iam.Role):
    """A role whose holder runs in the tenant's VPC and reaches AWS only through the VPC's endpoints.

    What it may call is declared to its stack (``TenantStack.callers``), and the network stack creates
    endpoints for these calls alone. A permission by a policy made elsewhere must be declared too
    (``declare``), or its calls have no endpoint. Path and boundary come from the stage.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        assumed_by: str,
        description: str,
        through: Sequence[str] = (),
    ) -> None:
        """``through`` names services that the platform calls for the holder and that no policy shows
        (``ecr.dkr`` for a task that pulls an image)."""
        sends_account = assumed_by in _SENDS_ACCOUNT and not through
        conditions = _of_own_account(scope) if sends_account else None
        super().__init__(
            scope,
            construct_id,
            assumed_by=cast("iam.IPrincipal", iam.ServicePrincipal(assumed_by, conditions=conditions)),
            description=description,
        )
        self._caller = Caller(path=self.node.path, platform=assumed_by, through=tuple(through))
        stack = cdk.Stack.of(self)
        if isinstance(stack, TenantStack):
            stack.callers.append(self._caller)

    def may(self, *statements: iam.PolicyStatement) -> None:
        """Add the statements to the role's inline policy, and declare them."""
        for statement in statements:
            self.add_to_policy(statement)
        self.declare(statements)

    def declare(self, statements: Iterable[iam.PolicyStatement]) -> None:
        """Tell the network that the holder makes these calls, which a policy made elsewhere allows."""
        self._caller.statements.extend(statements)


def outside_role(
    scope: Construct,
    construct_id: str,
    policy_id: str,
    statements: Sequence[iam.PolicyStatement],
    *,
    principals: Iterable[str],
    description: str,
    policy_description: str,
    duty: Duty | None = None,
    name: str | None = None,
) -> iam.Role:
    """Create a role for principals of the company (their ARNs) that run outside of the VPC, such as builds.

    It is declared to no stack, because it needs no endpoint. ``policy_id``: construct id of its policy.
    """
    trusted = [cast("iam.IPrincipal", iam.ArnPrincipal(arn)) for arn in principals]
    role = iam.Role(
        scope,
        construct_id,
        role_name=name,
        assumed_by=cast("iam.IPrincipal", iam.CompositePrincipal(*trusted)),
        description=description,
    )
    if duty is not None:
        tag_duty(role, duty)
    attach(role, policy_id, role.role_name, statements, description=policy_description)
    return role


class ServiceRole(Construct):
    """A role that an AWS service uses outside the tenant's VPC (a state machine, a schedule).

    What uses the role must depend on ``policy``, or it may start before the role has its permissions.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        service: str,
        description: str,
        statements: Sequence[iam.PolicyStatement],
        says_account: bool = True,
    ) -> None:
        """``says_account``: whether the service sends ``aws:SourceAccount`` when it assumes the role."""
        super().__init__(scope, construct_id)
        trust = {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"Service": service},
            **({"Condition": _of_own_account(self)} if says_account else {}),
        }
        role = iam.CfnRole(
            self,
            "Role",
            description=description,
            assume_role_policy_document={"Version": "2012-10-17", "Statement": [trust]},
        )
        self.arn, self.name = role.attr_arn, role.ref
        self.policy = attach(self, "Rights", role.ref, statements, description=description)


def attach(
    scope: Construct,
    construct_id: str,
    role: WorkloadRole | str,
    statements: Sequence[iam.PolicyStatement],
    *,
    description: str | None = None,
) -> iam.CfnManagedPolicy:
    """Create a managed policy and attach it to a role by name, so that the role does not depend on it.

    ``role``: its name; a WorkloadRole also declares the statements.
    """
    if isinstance(role, WorkloadRole):
        role.declare(statements)
        role = role.role_name
    return iam.CfnManagedPolicy(
        scope,
        construct_id,
        description=description,
        roles=[role],
        policy_document=iam.PolicyDocument(statements=list(statements)),
    )


def execution_role_arn(scope: Construct, *, tenant: DeployedTenant) -> str:
    """Return the ARN of the role with which CloudFormation deploys; ``cdk bootstrap`` creates it."""
    return _bootstrap_role(scope, tenant, "cfn-exec-role")


def exempt_principals(scope: Construct, *, tenant: DeployedTenant) -> list[str]:
    """Return ARNs of the principals outside the tenant that its stores admit: the deployment's roles,
    break-glass principals and declared readers."""
    return [
        execution_role_arn(scope, tenant=tenant),
        _bootstrap_role(scope, tenant, "deploy-role"),
        *tenant.place.break_glass,
        *tenant.config.observability.declared_principals,
    ]


def _bootstrap_role(scope: Construct, tenant: DeployedTenant, name: str) -> str:
    place = tenant.place
    return cdk.Stack.of(scope).format_arn(
        service="iam",
        region="",
        resource="role",
        resource_name=f"cdk-{place.bootstrap_qualifier}-{name}-{place.account}-{place.region}",
    )


def allow(
    actions: str | Sequence[str], *resources: str, conditions: Conditions | None = None
) -> iam.PolicyStatement:
    """Return a statement of an identity's policy: ``allow("s3:GetObject", f"{bucket}/*")``."""
    return iam.PolicyStatement(
        actions=[actions] if isinstance(actions, str) else list(actions),
        resources=list(resources),
        conditions=None if conditions is None else dict(conditions),
    )


def deny(sid: str | None, *, conditions: Conditions, **those: Sequence[str] | None) -> iam.PolicyStatement:
    """Return a statement of a resource's policy that refuses everybody. ``those``: ``actions``,
    ``not_actions``, ``resources`` and ``not_resources`` of the statement."""
    elements: dict[str, Any] = {name: list(values) for name, values in those.items() if values is not None}
    statement = iam.PolicyStatement(sid=sid, effect=iam.Effect.DENY, conditions=dict(conditions), **elements)
    statement.add_any_principal()
    return statement


def allow_service(
    service: str,
    actions: str | Sequence[str],
    *resources: str,
    sid: str | None = None,
    conditions: Conditions | None = None,
) -> iam.PolicyStatement:
    """Return a statement of a resource's policy that admits a service (``events`` of
    ``events.amazonaws.com``)."""
    statement = allow(actions, *resources, conditions=conditions)
    if sid is not None:
        statement.sid = sid
    statement.add_service_principal(f"{service}.amazonaws.com")
    return statement


def resource_arn(scope: Construct, service: str, resource: str, name: str, *, colon: bool = False) -> str:
    """Return the ARN ``arn:…:<service>:<region>:<account>:<resource>/<name>`` in the stack's account and
    region; with ``colon`` the name follows one (``…:log-group:<name>``)."""
    form = cdk.ArnFormat.COLON_RESOURCE_NAME if colon else None
    return cdk.Stack.of(scope).format_arn(
        service=service, resource=resource, resource_name=name, arn_format=form
    )


def bucket_arn(scope: Construct, name: str) -> str:
    return cdk.Stack.of(scope).format_arn(service="s3", region="", account="", resource=name)


def allow_partitions(
    scope: Construct, table: str, actions: str | Sequence[str], patterns: Sequence[str]
) -> iam.PolicyStatement:
    """Let a role call these actions on the items of a table whose partition key matches a pattern (``*``).

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html
    """
    conditions = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(patterns)}}
    return allow(actions, resource_arn(scope, "dynamodb", "table", table), conditions=conditions)


def table_statements(
    scope: Construct, definition: TableDefinition, name: str, *, actions: Sequence[str]
) -> list[iam.PolicyStatement]:
    """Let a role call these actions on a table, and query its indexes."""
    arn = resource_arn(scope, "dynamodb", "table", name)
    indexes = [f"{arn}/index/{index.name}" for index in definition.indexes]
    return [allow(actions, arn), *([allow("dynamodb:Query", *indexes)] if indexes else [])]


def log_group_arn(scope: Construct, name: str) -> str:
    return resource_arn(scope, "logs", "log-group", name, colon=True)


def parameter_arn(scope: Construct, name: str) -> str:
    """Return the ARN of an SSM parameter, given its full name (``/assistant/…``)."""
    return resource_arn(scope, "ssm", "parameter", name.removeprefix("/"))


def system_secret_arn(scope: Construct, name: str) -> str:
    """Return the ARN of a secret by its name: Secrets Manager adds six characters to it."""
    return resource_arn(scope, "secretsmanager", "secret", f"{name}-??????", colon=True)


def secret_arns(
    scope: Construct, tenant: DeployedTenant, systems: Iterable[ReachEntry], created: Mapping[str, str]
) -> list[str]:
    """Return the ARNs of the secrets of called systems. ``created`` has those of the deployment's own; of the
    company's only the name is known."""
    return [
        created.get(entry.name) or system_secret_arn(scope, name)
        for entry in systems
        if (name := tenant.secret_of(entry)) is not None
    ]


def via(tenant: DeployedTenant, *services: str) -> Conditions:
    """Return the condition that a key is used only by one of these services (``s3``) on the caller's
    behalf."""
    hosts = [f"{service}.{tenant.place.region}.amazonaws.com" for service in services]
    return {"StringEquals": {"kms:ViaService": hosts}}


def via_s3(scope: Construct) -> Conditions:
    """Return the condition ``via(tenant, "s3")`` for the region of the stack."""
    return {"StringEquals": {"kms:ViaService": f"s3.{cdk.Stack.of(scope).region}.amazonaws.com"}}


def interface_statements(
    scope: Construct, *, network: NetworkOutputs, workload: Workload
) -> list[iam.PolicyStatement]:
    """Let SageMaker create and delete network interfaces in the tenant's subnets, in the workload's group
    only."""
    subnets = [resource_arn(scope, "ec2", "subnet", name) for name in network.subnet_ids]
    group = resource_arn(scope, "ec2", "security-group", network.security_group_ids[workload])
    interface = resource_arn(scope, "ec2", "network-interface", "*")
    return [
        allow("ec2:CreateNetworkInterface", interface, *subnets, group),
        # An interface has no id before it is created; its subnet restricts which ones. Deleting a permission
        # supports no condition on the subnet.
        allow(
            ("ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface"),
            interface,
            conditions={"StringEquals": {"ec2:Subnet": subnets}},
        ),
        allow("ec2:DeleteNetworkInterfacePermission", interface),
        # Describe actions of EC2 support no resources.
        allow(
            (
                "ec2:DescribeDhcpOptions",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
            ),
            "*",
        ),
    ]
