"""20: Fargate tasks that do not start, or stop at their first temporary file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from template_checks.conditions import all_of
from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.permissions import Request
from template_checks.policies import plain, spellings
from template_checks.templates import Resource
from template_checks.values import Target, Value, at, flag, items, targets, text
from template_checks.workloads import Task, is_private_registry

_EXEC_ACTIONS = (
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
_PULL_ACTIONS = ("ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
_LOG_ACTIONS = ("logs:CreateLogStream", "logs:PutLogEvents")
_READS_SECRET = {True: "ssm:GetParameters", False: "secretsmanager:GetSecretValue"}
"""By whether the secret is a parameter of SSM."""
_REGISTRY = re.compile(
    r"^(?P<account>\d{12}|\$\{[^}]+\})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+|\$\{[^}]+\})\.[^/]+"
    r"/(?P<repository>[^:@]+)"
)
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
            *_check_execution_role(deployment, task),
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
    value = task.definition.properties.get("TaskRoleArn")
    role = deployment.policies.role(value)
    verdict: bool | None = False if value is None else None
    if role is not None:
        verdict = all_of(_may(deployment, role, action, ("*",)) for action in _EXEC_ACTIONS)
    if verdict is not True:
        yield (refused if verdict is False else not_proven)(
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


def _check_execution_role(deployment: Deployment, task: Task) -> Iterator[Finding]:
    """Hold the execution role against what Fargate does by it before a container starts."""
    value = task.definition.properties.get("ExecutionRoleArn")
    role = deployment.policies.role(value)
    for code, what, wanted in _wanted_of_fargate(task):
        verdicts: dict[str, bool | None] = {
            action: (False if value is None else None)
            if role is None
            else _may(deployment, role, action, resources)
            for action, resources in wanted.items()
        }
        missing = [action for action, verdict in verdicts.items() if verdict is not True]
        if not missing:
            continue
        is_told = False in verdicts.values()
        role_is = "is absent" if value is None else "is not told"
        yield (refused if is_told else not_proven)(
            task.definition,
            code,
            at="ExecutionRoleArn",
            message=f"It {what}, and its execution role {role_is}."
            if role is None
            else f"It {what}, and its execution role may not {', '.join(missing)}."
            if is_told
            else f"It {what}; whether its execution role may {', '.join(missing)} is not told.",
            mend=f"Give it an execution role that may {', '.join(wanted)} there.",
        )


def _wanted_of_fargate(
    task: Task,
) -> Iterator[tuple[str, str, dict[str, tuple[str, ...]]]]:
    """Yield a code, what the task needs, and the actions for it with their resources."""
    for container in task.containers:
        name = text(container.get("Name"))
        if is_private_registry(text(container.get("Image"))):
            repository = _repository(container.get("Image"))
            pulling = {action: repository if "Token" not in action else ("*",) for action in _PULL_ACTIONS}
            yield "no-pull-rights", f"pulls the image of {name} from ECR", pulling
        log = container.get("LogConfiguration")
        if text(at(log, "LogDriver")) == "awslogs":
            options = at(log, "Options")
            group = _log_group(task.definition, at(options, "awslogs-group"), at(options, "awslogs-region"))
            wanted: dict[str, tuple[str, ...]] = dict.fromkeys(_LOG_ACTIONS, group)
            if flag(at(options, "awslogs-create-group")):
                wanted["logs:CreateLogGroup"] = group
            yield "no-log-rights", f"writes the log of {name}", wanted
        for secret in items(container.get("Secrets")):
            source = at(secret, "ValueFrom")
            if source is not None:
                action, resources = _secret(task.definition, source)
                yield "no-secret-rights", f"reads a secret of {name}", {action: resources}


def _may(deployment: Deployment, role: Resource, action: str, resources: tuple[str, ...]) -> bool | None:
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
    start = f"arn:aws:logs:{place}:{definition.account}:log-group:"
    names = [f"{start}{plain(named)}"]
    labels: list[str] = []
    if isinstance(named, Target):
        labels = [plain(named)]  # Fn::GetAtt Arn of a log group ends in :*
        names += [name for name in spellings(named.resource) if name.startswith("arn:")]
    return (*labels, *(f"{name}:{end}" for name in (*labels, *names) for end in ("*", "log-stream:*")))


def _secret(definition: Resource, source: Value) -> tuple[str, tuple[str, ...]]:
    if isinstance(source, Target):
        is_parameter = source.resource.type == "AWS::SSM::Parameter"
        return _READS_SECRET[is_parameter], spellings(source.resource)
    address = plain(source)
    is_parameter = ":parameter" in address or ":" not in address
    if is_parameter and not address.startswith("arn:"):
        start = f"arn:aws:ssm:{definition.region}:{definition.account}:parameter"
        address = f"{start}/{address.lstrip('/')}"
    if not is_parameter and address.startswith("arn:"):
        address = ":".join(address.split(":")[:7])  # without JSON key, stage and version
    elif not is_parameter:
        address = address.partition(":")[0]
    return _READS_SECRET[is_parameter], (address,)


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
        title="Fargate with a read-only root and no /tmp, Exec without ssmmessages, no pull or log rights, "
        "architecture mismatch",
        parts={
            "read-only-without-tmp": "an essential container has ReadonlyRootFilesystem and nothing "
            "writable mounted at /tmp",
            "exec-without-rights": "EnableExecuteCommand and a task role without the ssmmessages actions",
            "exec-without-endpoint": "EnableExecuteCommand in a closed VPC without an ssmmessages endpoint",
            "no-pull-rights": "an image of ECR and an execution role that may not pull from its repository",
            "no-log-rights": "awslogs and an execution role that may not write to the log group",
            "no-secret-rights": "a secret and an execution role that may not read it",
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
