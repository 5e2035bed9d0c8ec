"""20: Fargate tasks that do not start, or stop at their first temporary file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from assistant.template_checks.findings import Finding, not_proven, passed, refused
from assistant.template_checks.mistakes.mistake import Deployment, Mistake
from assistant.template_checks.templates import Resource
from assistant.template_checks.values import Value, at, flag, items, text
from assistant.template_checks.workloads import Task, is_private_registry

_EXEC_ACTIONS = (
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
_PULL_ACTIONS = ("ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
_PULL_POLICIES = ("AmazonECSTaskExecutionRolePolicy", "AmazonEC2ContainerRegistryReadOnly")
_ARCHITECTURES = {
    "ARM64": re.compile(r"(?<![a-z0-9])(?:arm64|aarch64|arm64v8)(?![a-z0-9])", re.I),
    "X86_64": re.compile(r"(?<![a-z0-9])(?:amd64|x86[_-]64|x64)(?![a-z0-9])", re.I),
}


def _check(deployment: Deployment) -> Iterator[Finding]:
    for task in deployment.workloads.tasks():
        if not task.is_fargate:
            continue
        found = [
            *(finding for container in task.containers for finding in _check_tmp(task, container)),
            *_check_exec(deployment, task),
            *_check_pull(deployment, task),
            *_check_architecture(deployment, task),
        ]
        yield from found
        if not found:
            yield passed(task.definition, "read-only-without-tmp")


def _check_tmp(task: Task, container: Mapping[str, Value]) -> Iterator[Finding]:
    mounts = [
        text(at(mount, "ContainerPath")).rstrip("/")
        for mount in items(container.get("MountPoints"))
        if not flag(at(mount, "ReadOnly"))
    ]
    mounts += [
        text(at(mount, "ContainerPath")).rstrip("/")
        for mount in items(at(container.get("LinuxParameters"), "Tmpfs"))
    ]
    # The end of a container that is not essential is not the task's, and a sidecar may need no files.
    is_essential = flag(container.get("Essential")) is not False
    if is_essential and flag(container.get("ReadonlyRootFilesystem")) and "/tmp" not in mounts:  # noqa: S108 - a path to look for
        yield refused(
            task.definition,
            "read-only-without-tmp",
            at=f"ContainerDefinitions[{text(container.get('Name'))}].MountPoints",
            message="Its root is read-only and nothing writable is at /tmp, where libraries put temporary "
            "files.",
            mend="Add a volume to the task and mount it at /tmp, or a Tmpfs in LinuxParameters.",
        )


def _check_exec(deployment: Deployment, task: Task) -> Iterator[Finding]:
    if not task.has_exec:
        return
    role = deployment.policies.role(task.definition.properties.get("TaskRoleArn"))
    named = "TaskRoleArn" in task.definition.properties
    granted = bool(role) and all(
        deployment.policies.grants(role, action, "*") for action in _EXEC_ACTIONS if role
    )
    if not granted:
        yield (refused if role or not named else not_proven)(
            task.definition,
            "exec-without-rights",
            at="TaskRoleArn",
            message="ECS Exec is on and the task's role does not let its agent open the session.",
            mend=f"Allow the task role {', '.join(_EXEC_ACTIONS)}, or switch EnableExecuteCommand off.",
        )
    vpcs = deployment.vpcs
    closed = vpcs.is_closed(task.subnets)
    there = vpcs.of_service("ssmmessages", vpcs.vpc_of(task.subnets))
    if closed is not False and not there and "ssmmessages" not in deployment.facts.existing_endpoints:
        yield (refused if closed or vpcs.endpoints else not_proven)(
            task.definition,
            "exec-without-endpoint",
            at="EnableExecuteCommand",
            message="ECS Exec is on and its session goes through ssmmessages, for which the VPC has no "
            "endpoint.",
            mend="Add an interface endpoint for com.amazonaws.<region>.ssmmessages with private DNS, or "
            "switch EnableExecuteCommand off.",
        )


def _check_pull(deployment: Deployment, task: Task) -> Iterator[Finding]:
    if not task.pulls_from_ecr:
        return
    value = task.definition.properties.get("ExecutionRoleArn")
    role = deployment.policies.role(value)
    if role is not None and any(arn.endswith(_PULL_POLICIES) for arn in deployment.policies.managed(role)):
        return
    missing = [action for action in _PULL_ACTIONS if role is None or not _may(deployment, role, action)]
    if missing:
        yield (refused if role or value is None else not_proven)(
            task.definition,
            "no-pull-rights",
            at="ExecutionRoleArn",
            message="It pulls from ECR, and its execution role "
            + (
                "is absent."
                if value is None
                else f"may not {', '.join(missing)}."
                if role
                else "is not told."
            ),
            mend=f"Give it an execution role that may {', '.join(_PULL_ACTIONS)} on its repositories.",
        )


def _may(deployment: Deployment, role: Resource, action: str) -> bool:
    """Return whether a role may call an action on anything at all."""
    return any(one.allows and one.names_action(action) for one in deployment.policies.of_role(role))


def _check_architecture(deployment: Deployment, task: Task) -> Iterator[Finding]:
    platform = at(task.definition.properties.get("RuntimePlatform"), "CpuArchitecture")
    wanted = text(platform) if platform is not None else "X86_64"  # the default of ECS
    for container in task.containers:
        image = text(container.get("Image"))
        built = _built_for(deployment, image, wanted=wanted)
        is_open = built is None or "${" in wanted
        if not is_open and built == wanted:
            continue
        yield (not_proven if is_open else refused)(
            task.definition,
            "architecture-mismatch",
            at="RuntimePlatform.CpuArchitecture",
            message=f"The task runs on {wanted}; {image} is built for "
            f"{built or 'an architecture that is not told'}.",
            mend="Say it in the facts: architecture in the image's row of [[images]]."
            if built is None
            else f"Set RuntimePlatform.CpuArchitecture: {built}, or build the image for {wanted}.",
        )


def _built_for(deployment: Deployment, image: str, *, wanted: str) -> str | None:
    """Return what an image is built for: by the image table, else by its name."""
    repository = re.split(r"[:@]", image.partition("/")[2] if is_private_registry(image) else image)[0]
    for row in deployment.facts.images:
        if row.repository == repository and row.architecture:
            return row.architecture
    named = next((name for name, pattern in _ARCHITECTURES.items() if pattern.search(image)), None)
    # A table that tells of no other architecture is one of X86_64 images.
    return named or ("X86_64" if deployment.facts.images and wanted == "X86_64" else None)


MISTAKES = (
    Mistake(
        number=20,
        title="Fargate with a read-only root and no /tmp, Exec without ssmmessages, no pull rights, "
        "architecture mismatch",
        parts={
            "read-only-without-tmp": "an essential container has ReadonlyRootFilesystem and nothing "
            "writable mounted at /tmp",
            "exec-without-rights": "EnableExecuteCommand and a task role without the ssmmessages actions",
            "exec-without-endpoint": "EnableExecuteCommand in a closed VPC without an ssmmessages endpoint",
            "no-pull-rights": "an image of ECR and an execution role that may not pull it",
            "architecture-mismatch": "the image is built for another CPU than the task's",
        },
        why="Each of them shows only when a task starts, as CannotPullContainerError, exec format error "
        "or a crash at the first temporary file.",
        mend="A writable /tmp, the rights and endpoint that are used, one architecture.",
        absent="no Fargate task",
        facts="architecture in [[images]], where the image's name does not tell it",
        check=_check,
    ),
)
