"""What the lab adds to the stacks of models: the role of compile jobs, and endpoints to try candidates on.

A compile job (``assistant models compile``) reads the weights and its entry below ``llm/`` of the models
bucket, and puts what it compiled below ``compiled/``. No endpoint reads there, and the job puts nowhere else:
a publisher promotes what it checked (docs/decisions/0083-compile-on-trainium.md).

A tenant that tries candidates (``[models_lab] trials = true``) has roles and logs of throw-away endpoints.
``assistant models try`` makes the endpoints themselves, with the permissions of the person who runs it. That
person may pass the two roles; no other role of the tenant may (the boundary denies ``iam:PassRole``).

The commands read two outputs, each a JSON text: ``COMPILE_OUTPUT`` of the data stack, ``TRIAL_OUTPUT`` of the
models stack.
"""

from __future__ import annotations

from collections.abc import Iterator

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.options.models_lab.jumpstart import TRIAL_OUTPUT, TrialPlace
from assistant.options.models_lab.section import LabSection
from assistant.tenant.manifests import COMPILE_OUTPUT, COMPILED_PREFIX
from stacks.options import OptionStacks
from stacks.outputs import KeysOutputs, NetworkOutputs, Workload
from stacks.policy import MODELS_BUCKET, exceptions, wildcard
from stacks.processes import PULL_IMAGE, image_repository_arn, job_platform_statements, shared_job_request
from stacks.roles import (
    USE_KEY,
    Duty,
    ServiceRole,
    WorkloadRole,
    allow,
    attach,
    bucket_arn,
    interface_statements,
    resource_arn,
    tag_duty,
    via_s3,
)
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation, TenantStack, endpoint_log_group, tenant_log_group, tenant_of

IMAGE = "llm_neuronx"
"""Compiles and serves, in some regions alone (images.lock.toml)."""
_LONGEST_S = 6 * 3600
"""Longest run of one compile job: a bound on what one that hangs can cost."""
_REGISTRIES = ("deep-learning-containers", "sagemaker-algorithms")
"""AWS's own registries in images.lock.toml, with the images of JumpStart."""
# Kind of resource in an ARN = the action that deletes it.
_DELETING = {
    "endpoint": "sagemaker:DeleteEndpoint",
    "endpoint-config": "sagemaker:DeleteEndpointConfig",
    "model": "sagemaker:DeleteModel",
}


class Compiling(Construct):
    """The role of compile jobs. Its output is the part of CreateTrainingJob that all jobs share; ``assistant
    models compile`` adds the rest.

    ``keys``, ``network``: outputs of the stacks below. ``bucket``: the tenant's models bucket.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        keys: KeysOutputs,
        network: NetworkOutputs,
        bucket: s3.IBucket,
    ) -> None:
        super().__init__(scope, construct_id)
        tenant = tenant_of(self)
        role = WorkloadRole(
            self,
            "Role",
            assumed_by="sagemaker.amazonaws.com",
            description="Compiles language models for Inferentia2 and Trainium",
        )
        tag_duty(role, Duty.COMPILER)
        prefixes = {"StringLike": {"s3:prefix": ["llm/*", f"{COMPILED_PREFIX}*"]}}
        statements = [
            allow("s3:GetObject", bucket.arn_for_objects("llm/*")),
            allow(("s3:PutObject", "s3:AbortMultipartUpload"), bucket.arn_for_objects(f"{COMPILED_PREFIX}*")),
            allow("s3:ListBucket", bucket.bucket_arn, conditions=prefixes),
            # SageMaker encrypts the output of a job that names a key by kms:Encrypt (API reference,
            # OutputDataConfig); Trainium's disks are local, and take no key.
            allow((*USE_KEY, "kms:Encrypt"), keys.models_key_arn, conditions=via_s3(self)),
            *job_platform_statements(
                self, network=network, repository_arn=image_repository_arn(self, tenant, IMAGE)
            ),
        ]
        attach(self, "Rights", role, statements, description="What a compile job reads and writes")
        request = shared_job_request(
            self,
            network=network,
            role_arn=role.role_arn,
            output=f"s3://{bucket.bucket_name}/{COMPILED_PREFIX}",
            key_arn=keys.models_key_arn,
            longest_s=_LONGEST_S,
        )
        cdk.CfnOutput(scope, COMPILE_OUTPUT, value=cdk.Stack.of(self).to_json_string(request))


class TrialEndpoints(Construct):
    """What throw-away endpoints need: a log group for each of their names, the role of their containers, the
    role by which EventBridge Scheduler deletes them. Its output is a ``TrialPlace``."""

    def __init__(self, scope: Construct, construct_id: str, *, foundation: Foundation) -> None:
        super().__init__(scope, construct_id)
        tenant, keys, network = foundation.tenant, foundation.keys, foundation.network
        names, stack, bucket = trial_endpoints(tenant), cdk.Stack.of(self), foundation.data.models_bucket
        groups: list[str] = []
        for number, name in enumerate(names, start=1):
            place = {"logs_key_arn": keys.logs_key_arn, "name": endpoint_log_group(name)}
            groups.append(tenant_log_group(self, f"Log{number}", **place).log_group_arn)
        write_logs = ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")
        of_endpoints = {"StringEquals": {"cloudwatch:namespace": "/aws/sagemaker/Endpoints"}}
        folders = ["llm/*", "embedding/*"]
        models = bucket_arn(self, bucket)
        accounts = {_account(tenant, registry) for registry in _REGISTRIES}
        images = [
            stack.format_arn(service="ecr", account=account, resource="repository", resource_name="*")
            for account in sorted(accounts)
        ]
        description = f"Runs the containers of the endpoints on which {tenant.name} tries candidates"
        role = WorkloadRole(self, "Role", assumed_by="sagemaker.amazonaws.com", description=description)
        statements = [
            allow("ecr:GetAuthorizationToken", "*"),
            allow("cloudwatch:PutMetricData", "*", conditions=of_endpoints),
            allow(PULL_IMAGE, *images),
            allow(write_logs, *groups),
            allow("s3:GetObject", *(f"{models}/{folder}" for folder in folders)),
            allow("s3:ListBucket", models, conditions={"StringLike": {"s3:prefix": folders}}),
            allow("kms:Decrypt", keys.models_key_arn, conditions=via_s3(self)),
            *interface_statements(self, network=network, workload=Workload.MODELS),
        ]
        attach(self, "Rights", role, statements, description="What a candidate's endpoint reads and writes")
        clean_up = ServiceRole(
            self,
            "CleanUp",
            service="scheduler.amazonaws.com",
            description=f"Deletes the endpoints on which {tenant.name} tries candidates",
            statements=[
                allow(action, *(resource_arn(self, "sagemaker", kind, name) for name in names))
                for kind, action in _DELETING.items()
            ],
        )
        place = TrialPlace(
            endpoints=names,
            role_arn=role.role_arn,
            clean_up_role_arn=clean_up.arn,
            bucket=bucket,
            key_arn=keys.models_key_arn,
            subnets=network.subnet_ids,
            security_group=network.security_group_ids[Workload.MODELS],
        )
        value = stack.to_json_string(place.model_dump(mode="json"))
        output = cdk.CfnOutput(self, TRIAL_OUTPUT, value=value, description="For assistant models try")
        output.override_logical_id(TRIAL_OUTPUT)


def _account(tenant: DeployedTenant, registry: str) -> str:
    """Return AWS's account of a registry in the region. Raises ConfigurationError where none is known."""
    region = tenant.place.region
    try:
        return tenant.images.registries[registry][region]
    except KeyError:
        raise ConfigurationError(
            f"{tenant.name}: [models_lab] trials = true, and images.lock.toml has no account of {region} "
            f"under [registries.{registry}]. Write it there, or take trials away."
        ) from None


def trial_endpoints(tenant: DeployedTenant) -> tuple[str, ...]:
    """Return the names of the throw-away endpoints: three trials may run at a time. Empty unless the tenant
    file says ``trials = true``."""
    is_asked = LabSection.of(tenant.config).trials
    return tuple(f"{tenant.full_name}-trial-{n}" for n in (1, 2, 3)) if is_asked else ()


EXCEPTIONS = (
    *exceptions(
        "Data/Compiling/Rights",
        wildcard(
            "*",
            f"<ModelsBucket.Arn>/{COMPILED_PREFIX}*",
            "<ModelsBucket.Arn>/llm/*",
            "arn:{partition}:logs:{region}:{account}:log-group:/aws/sagemaker/TrainingJobs*",
            "arn:{partition}:ec2:{region}:{account}:network-interface/*",
        ),
        "ECR's sign-in, metrics and EC2's Describe actions support no resources (Service Authorization "
        "Reference). SageMaker names a job's output, the revision its weights; the log group is the "
        "account's for all training jobs; an interface has no id before it is created: its subnets and group "
        "restrict it.",
    ),
    *exceptions(
        "Models/Trials/Rights",
        wildcard(
            "*",
            "arn:{partition}:ec2:{region}:{account}:network-interface/*",
            *(f"arn:{{partition}}:ecr:{{region}}:{{{registry}}}:repository/*" for registry in _REGISTRIES),
            *(f"arn:{{partition}}:s3:::{MODELS_BUCKET}/{task}/*" for task in ("embedding", "llm")),
        ),
        "As above. A candidate is chosen after the deployment: its image is one that AWS publishes, in AWS's "
        "own registries, and its files are below one of two folders of the tenant's models bucket, which "
        "hold model artifacts alone.",
        decision="0084-candidates",
    ),
)


class ModelsOfLab(OptionStacks):
    """Compile jobs, and endpoints to try candidates on."""

    exceptions = EXCEPTIONS

    def add_to_data(
        self, stack: TenantStack, keys: KeysOutputs, network: NetworkOutputs, models: s3.IBucket
    ) -> None:
        """Let a tenant compile that has a publisher, who promotes what was compiled, in a region whose
        registry of AWS has the image."""
        tenant = stack.tenant
        if tenant.place.artifact_publishers and tenant.place.region in tenant.images.accounts(IMAGE):
            Compiling(stack, "Compiling", keys=keys, network=network, bucket=models)

    def add_to_models(self, stack: TenantStack, foundation: Foundation) -> None:
        """Add the endpoints of a tenant that tries candidates."""
        if trial_endpoints(foundation.tenant):
            TrialEndpoints(stack, "Trials", foundation=foundation)

    def log_groups(self, tenant: DeployedTenant) -> Iterator[str]:
        """Yield the names of the log groups of the throw-away endpoints."""
        yield from map(endpoint_log_group, trial_endpoints(tenant))
