"""12 and 20: container images, and Fargate tasks that do not start or stop at their first temporary file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from template_checks.conditions import all_of
from template_checks.findings import Deployment, Finding, judge, not_proven, or_passed, refused
from template_checks.permissions import Request
from template_checks.policies import plain, spellings
from template_checks.templates import Resource
from template_checks.values import Target, Value, at, flag, items, targets, text
from template_checks.workloads import FUNCTIONS, Container, Task, containers_of, is_private_registry

# --- 12: images -------------------------------------------------------------------------------------------
_ECR = re.compile(
    r"^(?P<account>\d{12}|\$\{.+?\})\.dkr\.ecr\.(?P<region>[a-z0-9-]+|\$\{.+?\})\.(?:amazonaws\.com(?:\.cn)?|\$\{.+?\})"
    r"/(?P<repository>[^:@]+)"
)
_DIGEST = re.compile(r"@(?:sha256:[0-9a-f]{64}|(?:sha256:)?\$\{.+\})$")
_FIXED_TAG = re.compile(r"\d+\.\d+|[0-9a-f]{7,40}|\d{8}")
"""A version of two numbers or more, a commit, or a date: tags that are not moved to another image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    resource: Resource
    path: str
    value: Value

    @property
    def address(self) -> str:
        return text(self.value)


def _images(deployment: Deployment) -> Iterator[_Image]:
    for task in deployment.workloads.tasks():
        for container in task.containers:
            path = f"ContainerDefinitions[{text(container.get('Name'))}].Image"
            yield _Image(resource=task.definition, path=path, value=container.get("Image"))
    for model in deployment.workloads.models():
        for container in containers_of(model):
            if "Image" in container:
                yield _Image(resource=model, path="PrimaryContainer.Image", value=container["Image"])
    for function in deployment.templates.of(*FUNCTIONS):
        uri = at(function.properties.get("Code"), "ImageUri") or function.properties.get("ImageUri")
        if uri is not None:
            yield _Image(resource=function, path="Code.ImageUri", value=uri)
    for job in deployment.templates.of("AWS::Batch::JobDefinition"):
        value = at(job.properties.get("ContainerProperties"), "Image")
        if value is not None:
            yield _Image(resource=job, path="ContainerProperties.Image", value=value)


def _check_images(deployment: Deployment) -> Iterator[Finding]:
    for image in _images(deployment):
        found = [*_check_pin(image), *_check_account(deployment, image)]
        yield from or_passed(found, image.resource, "image-unpinned")


def _check_pin(image: _Image) -> Iterator[Finding]:
    if _DIGEST.search(image.address):
        return
    tag = image.address.rpartition("/")[2].partition("@")[0].partition(":")[2]
    is_latest = tag.startswith("latest")
    is_open = "${" in tag or (image.address.startswith("${") and ":" not in image.address.rpartition("}")[2])
    if is_open and not is_latest:
        yield not_proven(
            image.resource,
            "image-unpinned",
            at=image.path,
            message=f"The tag or digest of {image.address} is unknown.",
            fix="Name it by digest, or give the parameter's value in the facts: parameters.",
        )
    elif is_latest or not _FIXED_TAG.search(tag):
        yield refused(
            image.resource,
            "image-latest" if is_latest else "image-unpinned",
            at=image.path,
            message=f"{image.address} "
            + (f'has the tag "{tag}", which' if tag else "has neither tag nor digest and")
            + " may be another image tomorrow: tasks that start then run something that nobody tested.",
            fix="Name it by digest (…@sha256:…), or by a tag that is never moved.",
        )


def _check_account(deployment: Deployment, image: _Image) -> Iterator[Finding]:
    if any(target.resource.type == "AWS::ECR::Repository" for target in targets(image.value)):
        return  # the account's own, made by these templates
    match = _ECR.match(image.address)
    if match is None:
        if "${" in image.address.partition("/")[0] or isinstance(image.value, Target):
            yield _unknown_account(image, "its registry is not in the templates")
        return
    account, region, repository = match["account"], match["region"], match["repository"]
    row = next((row for row in deployment.facts.images if row.repository == repository), None)
    own = image.resource.template.account or deployment.facts.account or "${AWS::AccountId}"
    if row is None:
        # An image of the deployment's own account needs no row.
        if "AWS::AccountId" not in account and account != own:
            yield _unknown_account(image, f"{repository} is not in the image table")
        return
    allowed = {row.accounts[region]} if region in row.accounts else set[str]()
    if not row.accounts:
        allowed = {own}
    elif "${" in region:
        allowed = {*row.accounts.values()}
        allowed |= {"${region}"} if len(allowed) > 1 else set()
    if account not in allowed:
        is_open = "${" in account or any("${" in one for one in allowed)
        yield judge(
            None if is_open else False,
            image.resource,
            "image-account",
            at=image.path,
            message=f"{row.repository} is pulled from account {account}; in {region} it "
            f"is published by {' or '.join(sorted(allowed)) or 'nobody'}.",
            fix="Use the account of the region from the publisher's table, or copy the image into your own.",
        )


def _unknown_account(image: _Image, why: str) -> Finding:
    return not_proven(
        image.resource,
        "image-account",
        at=image.path,
        message=f"The right account for {image.address} is unknown: {why}.",
        fix="Add a row to the facts: [[images]] with repository and accounts by region.",
    )


# --- 20: Fargate tasks ------------------------------------------------------------------------------------
_EXEC_ACTIONS = (
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
_REGISTRY = re.compile(
    r"^(?P<account>\d{12}|\$\{[^}]+\})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+|\$\{[^}]+\})\.[^/]+"
    r"/(?P<repository>[^:@]+)"
)
_ARCHITECTURES = {
    "ARM64": re.compile(r"(?<![a-z0-9])(?:arm64|aarch64|arm64v8)(?![a-z0-9])", re.I),
    "X86_64": re.compile(r"(?<![a-z0-9])(?:amd64|x86[_-]64|x64)(?![a-z0-9])", re.I),
}


def _check_tasks(deployment: Deployment) -> Iterator[Finding]:
    for task in deployment.workloads.tasks():
        if task.is_fargate:
            found = [
                *(finding for container in task.containers for finding in _check_tmp(task, container)),
                *_check_exec(deployment, task),
                *_check_execution_role(deployment, task),
                *_check_architecture(deployment, task),
            ]
            yield from or_passed(found, task.definition, "read-only-without-tmp")


def _check_tmp(task: Task, container: Container) -> Iterator[Finding]:
    mounts = [mount for mount in items(container.get("MountPoints")) if not flag(at(mount, "ReadOnly"))]
    mounts += items(at(container.get("LinuxParameters"), "Tmpfs"))
    paths = [text(at(mount, "ContainerPath")).rstrip("/") for mount in mounts]
    # A container that is not essential may stop without stopping the task, and a sidecar may need no files.
    is_essential = flag(container.get("Essential")) is not False
    if is_essential and flag(container.get("ReadonlyRootFilesystem")) and "/tmp" not in paths:  # noqa: S108 - a path to look for
        yield refused(
            task.definition,
            "read-only-without-tmp",
            at=f"ContainerDefinitions[{text(container.get('Name'))}].MountPoints",
            message="Its root is read-only and nothing writable is at /tmp, where libraries put temporary "
            "files.",
            fix="Add a volume to the task and mount it at /tmp, or a Tmpfs in LinuxParameters.",
        )


def _check_exec(deployment: Deployment, task: Task) -> Iterator[Finding]:
    if not task.has_exec:
        return
    value = task.definition.properties.get("TaskRoleArn")
    verdict = all_of(_may(deployment, value, action, ("*",)) for action in _EXEC_ACTIONS)
    if verdict is not True:
        yield judge(
            verdict,
            task.definition,
            "exec-without-rights",
            at="TaskRoleArn",
            message="ECS Exec is on and the task's role does not allow its agent to open the session.",
            fix=f"Allow the task role {', '.join(_EXEC_ACTIONS)}, or switch EnableExecuteCommand off.",
        )
    vpcs = deployment.vpcs
    is_closed = vpcs.is_closed(task.subnets)
    has_endpoint = vpcs.endpoints_of("ssmmessages", vpcs.vpc_of(task.subnets))
    has_endpoint = has_endpoint or "ssmmessages" in deployment.facts.existing_endpoints
    if is_closed is not False and not has_endpoint:
        yield judge(
            False if is_closed or vpcs.endpoints else None,
            task.definition,
            "exec-without-endpoint",
            at="EnableExecuteCommand",
            message="ECS Exec is on and its session uses ssmmessages, for which the VPC has no endpoint.",
            fix="Add an interface endpoint for com.amazonaws.<region>.ssmmessages with private DNS, or "
            "switch EnableExecuteCommand off.",
        )


def _check_execution_role(deployment: Deployment, task: Task) -> Iterator[Finding]:
    """Check that the execution role may do what Fargate does with it before a container starts."""
    value = task.definition.properties.get("ExecutionRoleArn")
    role = "is absent" if value is None else "is unknown"
    for code, what, needed in _needed_by_fargate(task):
        verdicts = {one: _may(deployment, value, one, resources) for one, resources in needed.items()}
        verdict = all_of(verdicts.values())
        missing = ", ".join(action for action, allowed in verdicts.items() if allowed is not True)
        if verdict is True:
            continue
        if deployment.policies.role(value) is None:
            message = f"It {what}, and its execution role {role}."
        elif verdict is False:
            message = f"It {what}, and its execution role may not {missing}."
        else:
            message = f"It {what}; the templates do not decide whether its execution role may {missing}."
        yield judge(
            verdict,
            task.definition,
            code,
            at="ExecutionRoleArn",
            message=message,
            fix=f"Give it an execution role that may {', '.join(needed)} there.",
        )


def _needed_by_fargate(task: Task) -> Iterator[tuple[str, str, dict[str, tuple[str, ...]]]]:
    """Yield a code, what the task does, and the actions that this needs with their resources."""
    for container in task.containers:
        name = text(container.get("Name"))
        if is_private_registry(text(container.get("Image"))):
            repository = _repository(container.get("Image"))
            yield (
                "no-pull-rights",
                f"pulls the image of {name} from ECR",
                {
                    "ecr:GetAuthorizationToken": ("*",),
                    "ecr:BatchGetImage": repository,
                    "ecr:GetDownloadUrlForLayer": repository,
                },
            )
        log = container.get("LogConfiguration")
        if text(at(log, "LogDriver")) == "awslogs":
            options = at(log, "Options")
            group = _log_group(task.definition, at(options, "awslogs-group"), at(options, "awslogs-region"))
            needed = {"logs:CreateLogStream": group, "logs:PutLogEvents": group}
            if flag(at(options, "awslogs-create-group")):
                needed["logs:CreateLogGroup"] = group
            yield "no-log-rights", f"writes the log of {name}", needed
        for secret in items(container.get("Secrets")):
            source = at(secret, "ValueFrom")
            if source is not None:
                yield "no-secret-rights", f"reads a secret of {name}", _secret(task.definition, source)


def _may(deployment: Deployment, value: Value, action: str, resources: tuple[str, ...]) -> bool | None:
    """Return whether the role that a value names may do this; no role may do nothing."""
    role = deployment.policies.role(value)
    if role is None:
        return False if value is None else None
    return deployment.permissions.role_may(role, Request(action=action, resources=resources))


def _repository(image: Value) -> tuple[str, ...]:
    """Return how policies may name the repository of an image in a private registry."""
    own = [target.resource for target in targets(image) if target.resource.type == "AWS::ECR::Repository"]
    if own:
        return spellings(own[0])
    match = _REGISTRY.match(plain(image))
    if match is None:
        return ("arn:aws:ecr:${region}:${account}:repository/${repository of the image}",)
    partition = "aws-cn" if match["region"].startswith("cn-") else "aws"
    return (f"arn:{partition}:ecr:{match['region']}:{match['account']}:repository/{match['repository']}",)


def _log_group(definition: Resource, named: Value, region: Value) -> tuple[str, ...]:
    """Return how policies may name the streams of a log group."""
    place = text(region) or definition.region
    names = [f"arn:aws:logs:{place}:{definition.account}:log-group:{plain(named)}"]
    labels: list[str] = []
    if isinstance(named, Target):
        labels = [plain(named)]  # Fn::GetAtt Arn of a log group ends in :*
        names += [name for name in spellings(named.resource) if name.startswith("arn:")]
    return (*labels, *(f"{name}:{end}" for name in (*labels, *names) for end in ("*", "log-stream:*")))


def _secret(definition: Resource, source: Value) -> dict[str, tuple[str, ...]]:
    """Return the action that reads a secret or parameter, with how policies may name it."""
    if isinstance(source, Target):
        is_parameter = source.resource.type == "AWS::SSM::Parameter"
        names = spellings(source.resource)
    else:
        address = plain(source)
        is_parameter = ":parameter" in address or ":" not in address
        if is_parameter and not address.startswith("arn:"):
            start = f"arn:aws:ssm:{definition.region}:{definition.account}:parameter"
            address = f"{start}/{address.lstrip('/')}"
        elif not is_parameter:  # without JSON key, stage and version
            address = ":".join(address.split(":")[: 7 if address.startswith("arn:") else 1])
        names = (address,)
    return {"ssm:GetParameters" if is_parameter else "secretsmanager:GetSecretValue": names}


def _check_architecture(deployment: Deployment, task: Task) -> Iterator[Finding]:
    platform = at(task.definition.properties.get("RuntimePlatform"), "CpuArchitecture")
    wanted = text(platform) if platform is not None else "X86_64"  # the default of ECS
    for container in task.containers:
        image = text(container.get("Image"))
        built = _built_for(deployment, image, wanted=wanted)
        is_open = built is None or "${" in wanted
        if not is_open and built == wanted:
            continue
        yield judge(
            None if is_open else False,
            task.definition,
            "architecture-mismatch",
            at="RuntimePlatform.CpuArchitecture",
            message=f"The task runs on {wanted}; {image} is built for {built or 'an unknown architecture'}.",
            fix="Give it in the facts: architecture in the image's row of [[images]]."
            if built is None
            else f"Set RuntimePlatform.CpuArchitecture: {built}, or build the image for {wanted}.",
        )


def _built_for(deployment: Deployment, image: str, *, wanted: str) -> str | None:
    """Return the architecture of an image: by the image table, else by its name."""
    repository = re.split(r"[:@]", image.partition("/")[2] if is_private_registry(image) else image)[0]
    for row in deployment.facts.images:
        if row.repository == repository and row.architecture:
            return row.architecture
    named = next((name for name, pattern in _ARCHITECTURES.items() if pattern.search(image)), None)
    # A table that names no other architecture is one of X86_64 images.
    return named or ("X86_64" if deployment.facts.images and wanted == "X86_64" else None)


CHECKS = {12: _check_images, 20: _check_tasks}
