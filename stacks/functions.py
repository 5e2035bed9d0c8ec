"""Functions inside a VPC: our code, locked dependencies, a role, and a log group under the tenant's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from stacks.function_package import FUNCTIONS, PYTHON, FunctionDependencies, code_archive
from stacks.outputs import Workload
from stacks.roles import WorkloadRole, allow, resource_arn
from stacks.tenant_stack import Foundation, tenant_log_group

_OLDEST_CALL_S = 60
"""Lambda's minimum. A call that waited longer, because functions were throttled, is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPlace:
    """Subnets, security group and keys of functions, as plain ids: the tenant's VPC, or that of the care
    side."""

    subnet_ids: tuple[str, ...]
    security_group_id: str
    logs_key_arn: str
    environment_key_arn: str

    @classmethod
    def of(cls, foundation: Foundation, workload: Workload) -> FunctionPlace:
        """Return the place of a workload's functions in the tenant's VPC."""
        network, keys = foundation.network, foundation.keys
        return cls(
            subnet_ids=network.subnet_ids,
            security_group_id=network.security_group_ids[workload],
            logs_key_arn=keys.logs_key_arn,
            environment_key_arn=keys.data_key_arn,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionProgram:
    """What a function runs: ``handle`` of ``lambdas/<module>.py``, from an archive of our code or an image.

    ``FunctionProgram(module="purge_index", timeout_s=600, environment={"ASSISTANT_TENANT": "pharmacy"})``
    """

    module: str
    timeout_s: int
    memory_mib: int = 1024
    """Lambda gives 1,769 MiB one core, and less of it in proportion."""
    environment: Mapping[str, str]
    """As a settings class returns it (``ProcessSettings.variables``)."""
    dependencies: FunctionDependencies = FUNCTIONS
    image: str | None = None
    """Full address of an image whose entry point takes the handler's name; then there are no archives."""
    scratch_mib: int = 512
    """Size of /tmp."""

    @property
    def handler(self) -> str:
        return f"lambdas.{self.module}.handle"


class FunctionRole(WorkloadRole):
    """The role of one function: what its code calls through the VPC's endpoints.

    Lambda's own calls with the role (network interfaces, log lines, traces) do not use these endpoints; they
    are a separate policy (``platform_statements``) that is not declared to the network.
    """

    def __init__(self, scope: Construct, construct_id: str, *, description: str) -> None:
        super().__init__(scope, construct_id, assumed_by="lambda.amazonaws.com", description=description)


class VpcFunction(Construct):
    """One function with its log group.

    ``role`` must have its policies when it is passed here, because the function waits for them. An ARN names
    a role of another stack, which has attached ``platform_statements`` to it.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        program: FunctionProgram,
        place: FunctionPlace,
        role: FunctionRole | str,
        has_rights: bool = True,
    ) -> None:
        """Without ``has_rights`` (the parser) the function's code may call nothing, and it gets no
        environment and no traces."""
        super().__init__(scope, construct_id)
        log_group = tenant_log_group(self, "Logs", logs_key_arn=place.logs_key_arn)
        kinds = lambda_.CfnFunction
        variables = kinds.EnvironmentProperty(variables=dict(program.environment))
        function = kinds(
            self,
            "Function",
            **_how_it_starts(self, program),
            architectures=["x86_64"],
            role=role if isinstance(role, str) else role.role_arn,
            timeout=program.timeout_s,
            memory_size=program.memory_mib,
            ephemeral_storage=kinds.EphemeralStorageProperty(size=program.scratch_mib),
            environment=variables if has_rights else None,
            kms_key_arn=place.environment_key_arn if has_rights else None,
            vpc_config=kinds.VpcConfigProperty(
                subnet_ids=list(place.subnet_ids), security_group_ids=[place.security_group_id]
            ),
            tracing_config=kinds.TracingConfigProperty(mode="Active") if has_rights else None,
            logging_config=kinds.LoggingConfigProperty(log_group=log_group.log_group_name, log_format="JSON"),
        )
        self.module = program.module
        self.log_group_name = log_group.log_group_name
        self.function_name = function.ref
        self.function_arn = function.attr_arn
        if isinstance(role, FunctionRole):
            platform = iam.ManagedPolicy(
                self,
                "Platform",
                description="What Lambda itself does for a function in a VPC",
                statements=platform_statements(
                    self, log_group_arn=log_group.log_group_arn, has_rights=has_rights
                ),
            )
            role.add_managed_policy(platform)
            # Lambda refuses a function whose role cannot create its network interfaces yet, and
            # CloudFormation may call one as soon as it exists.
            function.node.add_dependency(platform)
            # The role's inline policy, and managed ones that a stack created below it.
            for policy in role.node.children:
                if isinstance(policy, iam.Policy | iam.CfnManagedPolicy):
                    function.node.add_dependency(policy)


def _how_it_starts(scope: Construct, program: FunctionProgram) -> dict[str, Any]:
    """Return the properties of what runs: an image, or our code with a layer of dependencies."""
    kinds = lambda_.CfnFunction
    if program.image is not None:
        return {
            "code": kinds.CodeProperty(image_uri=program.image),
            "package_type": "Image",
            "image_config": kinds.ImageConfigProperty(command=[program.handler]),
        }
    return {
        "code": _code(scope),
        "handler": program.handler,
        "runtime": f"python{PYTHON}",
        "layers": [_layer(scope, program.dependencies)],
    }


def schedule(
    scope: Construct, construct_id: str, *, function: VpcFunction, rate: str, comes_again: bool = False
) -> None:
    """Call a function by a rate of EventBridge (``rate(15 minutes)``) or a cron expression in UTC.

    ``comes_again``: Lambda does not retry a failed call, because the next scheduled one does its work.
    Created as resources, because CDK's target takes only CDK's own kind of function.
    """
    scope = Construct(scope, construct_id)
    rule = events.CfnRule(
        scope,
        "Rule",
        schedule_expression=rate,
        targets=[events.CfnRule.TargetProperty(arn=function.function_arn, id="Function")],
    )
    let_rule_call(scope, "Call", rule=rule, function=function.function_arn)
    if comes_again:
        lambda_.CfnEventInvokeConfig(
            scope,
            "Attempts",
            function_name=function.function_name,
            qualifier="$LATEST",
            maximum_retry_attempts=0,
            maximum_event_age_in_seconds=_OLDEST_CALL_S,
        )


def let_rule_call(scope: Construct, construct_id: str, *, rule: events.CfnRule, function: str) -> None:
    """Let a rule of EventBridge call a function, given by name or ARN."""
    lambda_.CfnPermission(
        scope,
        construct_id,
        action="lambda:InvokeFunction",
        function_name=function,
        principal="events.amazonaws.com",
        source_arn=rule.attr_arn,
    )


def platform_statements(
    scope: Construct, *, log_group_arn: str, has_rights: bool = True
) -> list[iam.PolicyStatement]:
    """Return the statements of what Lambda itself does with a function's role. A Deny keeps the function's
    code from using the network interfaces, and without ``has_rights`` from everything but its log.

    The Deny holds for calls with the condition key ``lambda:SourceFunctionArn``. The code's calls have it,
    and so have Lambda's own for log lines and traces, but not those for network interfaces ("Using source
    function ARN to control function access behavior"). So the log must stay out of the Deny.

    Lambda's Developer Guide ("Giving Lambda functions access to resources in an Amazon VPC") lists the
    actions on network interfaces, and the denial for code. Neither they nor X-Ray's support resources.
    """
    interfaces = [
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface",
        "ec2:AssignPrivateIpAddresses",
        "ec2:UnassignPrivateIpAddresses",
    ]
    functions = resource_arn(scope, "lambda", "function", "*", colon=True)
    logs = ["logs:CreateLogStream", "logs:PutLogEvents"]
    denied = iam.PolicyStatement(
        effect=iam.Effect.DENY,
        actions=interfaces if has_rights else None,
        not_actions=None if has_rights else logs,
        resources=["*"],
        conditions={"ArnLike": {"lambda:SourceFunctionArn": functions}},
    )
    traces = allow(("xray:PutTraceSegments", "xray:PutTelemetryRecords"), "*")
    return [allow(interfaces, "*"), denied, *([traces] if has_rights else []), allow(logs, log_group_arn)]


def _code(scope: Construct) -> lambda_.CfnFunction.CodeProperty:
    """Return the archive of our code as the stack's asset: the first function creates it, all others share
    it."""
    stack = cdk.Stack.of(scope)
    asset = stack.node.try_find_child("FunctionCode")
    if not isinstance(asset, assets.Asset):
        archive = code_archive()
        asset = assets.Asset(stack, "FunctionCode", path=str(archive.path), asset_hash=archive.hash)
    return lambda_.CfnFunction.CodeProperty(s3_bucket=asset.s3_bucket_name, s3_key=asset.s3_object_key)


def _layer(scope: Construct, dependencies: FunctionDependencies) -> str:
    """Return the ARN of the stack's layer of these dependencies: the first function creates it, others share
    it."""
    stack = cdk.Stack.of(scope)
    construct_id = f"{dependencies.lock.capitalize()}Layer"
    layer = stack.node.try_find_child(construct_id)
    if not isinstance(layer, lambda_.LayerVersion):
        archive = dependencies.archive()
        layer = lambda_.LayerVersion(
            stack,
            construct_id,
            code=lambda_.Code.from_asset(str(archive.path), asset_hash=archive.hash),
            compatible_runtimes=[lambda_.Runtime(f"python{PYTHON}", lambda_.RuntimeFamily.PYTHON)],
            compatible_architectures=[lambda_.Architecture.X86_64],
            description=f"requirements/{dependencies.lock}.txt",
        )
    return layer.layer_version_arn
