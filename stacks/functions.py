"""A function inside a VPC: our code, locked dependencies, a role of its own, logs under the tenant's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from stacks.function_package import FUNCTIONS, PYTHON, FunctionDependencies, code_archive
from stacks.roles import WorkloadRole
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import tenant_log_group


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPlace:
    """Where functions stand and whose keys they use: plain ids, of any VPC."""

    subnet_ids: tuple[str, ...]
    security_group_id: str
    logs_key_arn: str
    environment_key_arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionProgram:
    """What a function runs: ``lambdas/<folder>/handler.py``, function ``handle``."""

    folder: str
    timeout_s: int
    memory_mib: int
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """As a settings class gives it (``variables``)."""
    dependencies: FunctionDependencies = FUNCTIONS
    scratch_mib: int = 512
    """Size of /tmp."""


class FunctionRole(WorkloadRole):
    """The role of one function. What Lambda does for it stands apart from what its code may call: network
    interfaces, log lines and traces go through no endpoint of the VPC."""

    def __init__(self, scope: Construct, construct_id: str, *, description: str) -> None:
        super().__init__(scope, construct_id, assumed_by="lambda.amazonaws.com", description=description)


class VpcFunction(Construct):
    """One function with its log group.

    ``role`` has its rights already; where it is an ARN, the stack that made that role gave it
    ``platform_statements``.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        program: FunctionProgram,
        place: FunctionPlace,
        role: FunctionRole | str,
    ) -> None:
        super().__init__(scope, construct_id)
        self.log_group = tenant_log_group(self, "Logs", tenant=tenant, logs_key_arn=place.logs_key_arn)
        self._function = lambda_.CfnFunction(
            self,
            "Function",
            code=_code(self),
            handler=f"lambdas.{program.folder}.handler.handle",
            runtime=f"python{PYTHON}",
            architectures=["x86_64"],
            layers=[_layer(self, program.dependencies)],
            role=role if isinstance(role, str) else role.role_arn,
            timeout=program.timeout_s,
            memory_size=program.memory_mib,
            ephemeral_storage=lambda_.CfnFunction.EphemeralStorageProperty(size=program.scratch_mib),
            environment=lambda_.CfnFunction.EnvironmentProperty(variables=dict(program.environment)),
            kms_key_arn=place.environment_key_arn,
            vpc_config=lambda_.CfnFunction.VpcConfigProperty(
                subnet_ids=list(place.subnet_ids), security_group_ids=[place.security_group_id]
            ),
            tracing_config=lambda_.CfnFunction.TracingConfigProperty(mode="Active"),
            logging_config=lambda_.CfnFunction.LoggingConfigProperty(
                log_group=self.log_group.log_group_name, log_format="JSON"
            ),
        )
        if isinstance(role, FunctionRole):
            self._let_lambda_use(role)

    def _let_lambda_use(self, role: FunctionRole) -> None:
        platform = iam.ManagedPolicy(
            self,
            "Platform",
            description="What Lambda itself does for a function in a VPC",
            statements=platform_statements(self, log_group_arn=self.log_group.log_group_arn),
        )
        role.add_managed_policy(platform)
        # Lambda refuses a function whose role cannot make its network interfaces yet, and CloudFormation may
        # call one as soon as it is there.
        self._function.node.add_dependency(platform)
        for rights in role.node.children:  # its own policy, and what a stack attached there by name
            if isinstance(rights, iam.Policy | iam.CfnManagedPolicy):
                self._function.node.add_dependency(rights)

    @property
    def function_name(self) -> str:
        return self._function.ref

    @property
    def function_arn(self) -> str:
        return self._function.attr_arn


def platform_statements(scope: Construct, *, log_group_arn: str) -> list[iam.PolicyStatement]:
    """Return what Lambda does with a function's role; the function's own code may not use the first of it.

    Lambda's Developer Guide ("Giving Lambda functions access to resources in an Amazon VPC") lists the
    actions on network interfaces, and the denial for code. Neither they nor X-Ray's know resources.
    """
    interfaces = [
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface",
        "ec2:AssignPrivateIpAddresses",
        "ec2:UnassignPrivateIpAddresses",
    ]
    functions = cdk.Stack.of(scope).format_arn(
        service="lambda", resource="function", resource_name="*", arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME
    )
    return [
        iam.PolicyStatement(actions=interfaces, resources=["*"]),
        iam.PolicyStatement(
            effect=iam.Effect.DENY,
            actions=interfaces,
            resources=["*"],
            conditions={"ArnLike": {"lambda:SourceFunctionArn": functions}},
        ),
        iam.PolicyStatement(actions=["xray:PutTraceSegments", "xray:PutTelemetryRecords"], resources=["*"]),
        iam.PolicyStatement(actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[log_group_arn]),
    ]


def _code(scope: Construct) -> lambda_.CfnFunction.CodeProperty:
    stack = cdk.Stack.of(scope)
    archive = code_archive()
    found = stack.node.try_find_child("FunctionCode")
    if not isinstance(found, assets.Asset):
        found = assets.Asset(stack, "FunctionCode", path=str(archive.path), asset_hash=archive.hash)
    return lambda_.CfnFunction.CodeProperty(s3_bucket=found.s3_bucket_name, s3_key=found.s3_object_key)


def _layer(scope: Construct, dependencies: FunctionDependencies) -> str:
    """Return the version of the stack's layer of these dependencies; one for all its functions."""
    stack = cdk.Stack.of(scope)
    construct_id = f"{dependencies.lock.capitalize()}Layer"
    found = stack.node.try_find_child(construct_id)
    if not isinstance(found, lambda_.LayerVersion):
        archive = dependencies.archive()
        found = lambda_.LayerVersion(
            stack,
            construct_id,
            code=lambda_.Code.from_asset(str(archive.path), asset_hash=archive.hash),
            compatible_runtimes=[lambda_.Runtime(f"python{PYTHON}", lambda_.RuntimeFamily.PYTHON)],
            compatible_architectures=[lambda_.Architecture.X86_64],
            description=f"requirements/{dependencies.lock}.txt",
        )
    return found.layer_version_arn


# A function called every so many minutes.


class FunctionSchedule(Construct):
    """As resources: CDK's target wants a function of its own kind."""

    def __init__(self, scope: Construct, construct_id: str, *, function: VpcFunction, minutes: int) -> None:
        super().__init__(scope, construct_id)
        rule = events.CfnRule(
            self,
            "Rule",
            schedule_expression=f"rate({minutes} minutes)",
            targets=[events.CfnRule.TargetProperty(arn=function.function_arn, id="Function")],
        )
        lambda_.CfnPermission(
            self,
            "Call",
            action="lambda:InvokeFunction",
            function_name=function.function_arn,
            principal="events.amazonaws.com",
            source_arn=rule.attr_arn,
        )
