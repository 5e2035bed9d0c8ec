"""What a container, function or training job is started with: its image, the tenant file that it reads, and
what each request for a job says."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import aws_cdk as cdk
import tomlkit
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from assistant.tenant.manifests import DIGEST_PATTERN
from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import KeyMark, marked
from stacks.options import option_stacks
from stacks.outputs import NetworkOutputs, Workload
from stacks.roles import WorkloadRole, allow, interface_statements, log_group_arn, via
from stacks.tenant import ROOT, DeployedTenant
from stacks.tenant_stack import tenant_of

TASK_IMAGES = ("orchestrator", "otel_collector")
"""Names of the images of one task: the service, and the trace collector beside it."""
LEARNING_IMAGE = "learning"
"""Name of the image of both functions of the learning stack."""
CORPUS_IMAGE = "corpus_job"
"""Name of the image of the corpus stack's application, in ``containers``."""
PULL_IMAGE = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
"""Actions of a role that pulls an image from a repository."""
_LOCK_FIRST = "RunMakeImages"
"""Parameter of the first stack. CloudFormation names it when it refuses the deployment, so the name says what
to run: make images."""
_BASE_LOCK = ROOT / "containers" / "base-image.lock"
_FOLDER = ROOT / "build" / "tenant-files"


def ask_for_locks(stack: cdk.Stack, tenant: DeployedTenant) -> None:
    """While an image of the tenant has no digest, give ``stack`` (the first one, keys) a parameter without
    default and write one warning to stderr that names what is not locked.

    So the templates can be synthesized and reviewed, but no deployment begins, neither by CDK nor by
    CloudFormation itself: a rule of the template accepts only the value ``done``.
    """
    option_images = (name for option in option_stacks() for name in option.images(tenant))
    images = (manifest.image for manifest in tenant.served)
    names = dict.fromkeys((*TASK_IMAGES, LEARNING_IMAGE, *option_images, *images))
    missing = [name for name in names if _needs_lock(tenant, name)]
    if not missing:
        return
    commands = "; ".join(_lock_command(name, tenant) for name in missing)
    parameter = cdk.CfnParameter(
        stack,
        _LOCK_FIRST,
        type="String",
        description=f"Images without a digest in images.lock.toml. Run, then deploy again: {commands}",
    )
    assertion = cdk.CfnRuleAssertion(
        assert_=cdk.Fn.condition_equals(parameter.value_as_string, "done"),
        assert_description="images.lock.toml lacks digests. Run make images TO=ACCOUNT/REGION.",
    )
    cdk.CfnRule(stack, "ImagesAreLocked", assertions=[assertion])
    warning = f"images.lock.toml has no digest of {', '.join(missing)}. Run: {commands}."
    if "@sha256:" not in _BASE_LOCK.read_text(encoding="utf-8"):
        warning += f" {_BASE_LOCK.relative_to(ROOT)} has none either: make lock-images."
    if unpackaged := [manifest.name for manifest in tenant.served if manifest.sha256 is None]:
        warning += f" Model artifacts without a hash (model_artifacts/README.md): {', '.join(unpackaged)}."
    sys.stderr.write(f"warning: {tenant.name} cannot be deployed yet: {warning}\n")


def _needs_lock(tenant: DeployedTenant, name: str) -> bool:
    """Return whether an image has no digest and must have one: our own images always, all under ``hipaa``.

    A tag is not enough there, because whoever may push to the registry, AWS included, can move it.
    """
    image = tenant.images.image(name)
    return image.digest is None and (image.is_own or tenant.is_hipaa)


def _lock_command(name: str, tenant: DeployedTenant) -> str:
    """Return the command that writes an image's digest."""
    return f"make images TO={tenant.place.account}/{tenant.place.region} ARGS={name}"


def image_uri(scope: Construct, tenant: DeployedTenant, name: str) -> str:
    """Return the full address of an image of ``images.lock.toml`` in the tenant's region.

    A missing digest of an own image, or of any image of a ``hipaa`` tenant, becomes a parameter of the stack
    without default: synth and review need no image, and a deployment stops at once and names it. Other images
    of AWS use their tag. Raises ConfigurationError where the region does not have the image.
    """
    image = tenant.images.image(name)
    host = f"{_account(tenant, name)}.dkr.ecr.{tenant.place.region}.{cdk.Aws.URL_SUFFIX}"
    if _needs_lock(tenant, name):
        return f"{host}/{image.repository}@{_digest_parameter(scope, name, tenant).value_as_string}"
    return f"{host}/{image.repository}" + (f"@{image.digest}" if image.digest else f":{image.tag}")


def image_repository_arn(scope: Construct, tenant: DeployedTenant, name: str) -> str:
    return cdk.Stack.of(scope).format_arn(
        service="ecr",
        account=_account(tenant, name),
        region=tenant.place.region,
        resource="repository",
        resource_name=tenant.images.image(name).repository,
    )


def image_stamp(tenant: DeployedTenant, name: str) -> str:
    """Return a value that changes with the image: its digest, or its tag while the digest is missing."""
    image = tenant.images.image(name)
    return image.digest or image.tag


def _account(tenant: DeployedTenant, name: str) -> str:
    """Return the account whose registry has an image: the tenant's, or AWS's in the region."""
    return tenant.images.account(name, region=tenant.place.region, own=tenant.place.account)


def _digest_parameter(scope: Construct, name: str, tenant: DeployedTenant) -> cdk.CfnParameter:
    """Return the stack's parameter ``OtelCollectorImageDigest``; it is created once a stack."""
    stack = cdk.Stack.of(scope)
    parameter_id = "".join(part.capitalize() for part in name.split("_")) + "ImageDigest"
    parameter = stack.node.try_find_child(parameter_id)
    if isinstance(parameter, cdk.CfnParameter):
        return parameter
    command = _lock_command(name, tenant)
    return cdk.CfnParameter(
        stack,
        parameter_id,
        type="String",
        allowed_pattern=DIGEST_PATTERN,
        description=f"Digest of {tenant.images.image(name).repository}; "
        f"`{command}` writes it to images.lock.toml, then this is not asked for.",
        constraint_description=f"is sha256: and 64 hexadecimal digits. Run: {command}",
    )


class TenantFileAsset(Construct):
    """The effective tenant file as an object of the bootstrap bucket, named by the hash of its content.

    It leaves out the sections that only a deployment reads, such as account and network. The text is written
    to ``build/tenant-files`` first, because an asset is made of a file.
    """

    def __init__(self, scope: Construct, construct_id: str, *, tenant: DeployedTenant) -> None:
        super().__init__(scope, construct_id)
        content = effective_tenant_file(tenant)
        digest = hashlib.sha256(content.encode()).hexdigest()
        _FOLDER.mkdir(parents=True, exist_ok=True)
        path = _FOLDER / f"{tenant.name}-{digest[:16]}.toml"
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
        self._asset = assets.Asset(self, "File", path=str(path), asset_hash=digest)
        self._tenant = tenant
        self.uri = self._asset.s3_object_url
        """``s3://bucket/key.toml``, known at deploy time: a value for ``tenant_file_s3``."""

    def grant_read(self, role: WorkloadRole) -> None:
        """Let a role read this one object, which may be under a key of the company's."""
        arn = self._asset.bucket.arn_for_objects(self._asset.s3_object_key)
        role.may(allow("s3:GetObject", arn))
        if key := self._tenant.place.bootstrap_key:
            role.may(allow("kms:Decrypt", key, conditions=via(self._tenant, "s3")))


def effective_tenant_file(tenant: DeployedTenant) -> str:
    """Return the TOML that processes on AWS read: every value that shapes an answer, with defaults, in the
    order of the settings; from options also the secrets and authorities of connectors, and the systems that
    are called."""
    left_out = marked(TenantConfig, KeyMark.DEPLOYMENT_READS)
    data = tenant.config.model_dump(mode="json", exclude=left_out, exclude_none=True)
    for option in option_stacks():
        option.fill_in(tenant, data)
    if "care_context" in data:
        data["care_context"].setdefault("jwks_parameter", tenant.care_jwks_parameter)
    return tomlkit.dumps(data)


# --- training jobs ----------------------------------------------------------------------------------------
# The outputs ``TrainingJob`` and ``CompileJob`` hold these requests; ``assistant models train`` and
# ``compile`` complete them. No role of a tenant starts a job: whoever does acts with its own rights, because
# the boundary denies the roles all of IAM, passing a role too (docs/decisions/0082-training-jobs.md).

VOLUME_GIB = 200
"""Within the local disk of the smallest instance that has one (250 GB): more would be refused there."""


def job_platform_statements(
    scope: Construct, *, network: NetworkOutputs, repository_arn: str
) -> list[iam.PolicyStatement]:
    """Return what SageMaker does with a role over its own network: interfaces, log lines, metrics, images.

    The log group is that of all training jobs of an account, as SageMaker names it.
    https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html, "CreateTrainingJob API".
    """
    lines = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")
    own_metrics = {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}}
    return [
        *interface_statements(scope, network=network, workload=Workload.JOBS),
        allow(lines, log_group_arn(scope, "/aws/sagemaker/TrainingJobs*")),
        allow("cloudwatch:PutMetricData", "*", conditions=own_metrics),
        allow("ecr:GetAuthorizationToken", "*"),
        allow(PULL_IMAGE, repository_arn),
    ]


def shared_job_request(
    scope: Construct, *, network: NetworkOutputs, role_arn: str, output: str, key_arn: str, longest_s: int
) -> dict[str, Any]:
    """Return what CreateTrainingJob is asked for in every job of a role.

    ``output``: S3 folder of the results, which ``key_arn`` encrypts. ``longest_s`` bounds what a job that
    went wrong can cost.
    """
    tags = {**tenant_of(scope).tags(), "data-class": "phi"}
    return {
        "RoleArn": role_arn,
        # As endpoints take a model: files below a prefix.
        "OutputDataConfig": {"S3OutputPath": output, "KmsKeyId": key_arn, "CompressionType": "NONE"},
        # One instance: the jobs' security group lets no two of them talk.
        "ResourceConfig": {"InstanceCount": 1, "VolumeSizeInGB": VOLUME_GIB},
        "StoppingCondition": {"MaxRuntimeInSeconds": longest_s},
        "VpcConfig": {
            "Subnets": list(network.subnet_ids),
            "SecurityGroupIds": [network.security_group_ids[Workload.JOBS]],
        },
        "EnableNetworkIsolation": True,
        "EnableInterContainerTrafficEncryption": True,
        "ProfilerConfig": {"DisableProfiler": True},
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }
