"""22: plaintext on the way, and answers that outlive their connection."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from assistant.template_checks.findings import Finding, not_proven, passed, refused
from assistant.template_checks.load_balancing import TARGET_GROUP, attribute, port_of
from assistant.template_checks.mistakes.mistake import Deployment, Mistake
from assistant.template_checks.mistakes.zones import DOMAINS
from assistant.template_checks.templates import Resource
from assistant.template_checks.values import Value, at, flag, integer, items, mapping, targets, text
from assistant.template_checks.workloads import FUNCTIONS, containers_of, environment_of

_HTTP = 80
_DEFAULT_DRAIN_S = 300
_DEFAULT_STOP_S = 30
_LONGEST_STOP_S = 120
"""That Fargate allows."""
_ON_THE_TASK = re.compile(r"^(?:localhost|127\.[\d.]+|::1|0\.0\.0\.0|169\.254\.[\d.]+)$")


def _check(deployment: Deployment) -> Iterator[Finding]:
    yield from _check_listeners(deployment)
    yield from _check_target_groups(deployment)
    yield from _check_domains(deployment)
    yield from _check_addresses(deployment)
    yield from _check_volumes(deployment)
    yield from _check_deadline(deployment)


def _plain(resource: Resource, *, at_: str, said: str, mend: str, is_told: bool = True) -> Finding:
    return (refused if is_told else not_proven)(
        resource,
        "plaintext-hop",
        at=at_,
        message=f"{said} Questions and answers pass in plaintext.",
        mend=mend,
    )


def _check_listeners(deployment: Deployment) -> Iterator[Finding]:
    for balancer in [*deployment.balancing.application, *deployment.balancing.network]:
        for listener in deployment.balancing.listeners(balancer):
            if text(listener.properties.get("Protocol")) == "TLS":
                yield from _check_behind_tls(deployment, listener)
            else:
                yield _check_listener(deployment, listener)


def _check_listener(deployment: Deployment, listener: Resource) -> Finding:
    protocol = text(listener.properties.get("Protocol"))
    actions = {text(at(action, "Type")) for action in deployment.balancing.actions(listener)}
    if protocol == "HTTP" and actions - {"redirect", "fixed-response"}:
        return _plain(
            listener,
            at_="Protocol",
            said="The listener takes HTTP.",
            mend="Set Protocol: HTTPS with a certificate; a listener on 80 may only redirect.",
        )
    if protocol == "TCP" and port_of(listener) == _HTTP:
        return _plain(
            listener,
            at_="Port",
            said="The listener passes port 80 on.",
            mend="Listen on 443 and let TLS end at the target.",
        )
    if "${" in protocol:
        return _plain(
            listener,
            at_="Protocol",
            said=f"Its protocol, {protocol}, is not told.",
            mend="Give the parameter a default.",
            is_told=False,
        )
    return passed(listener, "plaintext-hop")


def _check_behind_tls(deployment: Deployment, listener: Resource) -> Iterator[Finding]:
    for group in deployment.balancing.forwards(listener):
        if text(group.properties.get("Protocol")) == "TLS":
            yield passed(group, "plaintext-hop")
        else:
            yield _plain(
                group,
                at_="Protocol",
                said=f"TLS ends at {listener.logical_id} and goes on as "
                f"{text(group.properties.get('Protocol'))}.",
                mend="Set Protocol: TLS on the target group, or pass TLS through with a TCP listener.",
            )


def _check_target_groups(deployment: Deployment) -> Iterator[Finding]:
    for group in deployment.templates.of(TARGET_GROUP):
        protocol = text(group.properties.get("Protocol"))
        kind = text(group.properties.get("TargetType"))
        if protocol == "HTTP" or (not protocol and kind in ("ip", "instance")):
            yield _plain(
                group,
                at_="Protocol",
                said="It passes requests on by HTTP.",
                mend="Set Protocol: HTTPS, and let the target serve TLS on its port.",
            )
        elif kind == "alb" and _asks_plainly(deployment, group):
            yield _plain(
                group,
                at_="HealthCheckProtocol",
                said="Its health check asks the ALB's TLS port by HTTP, which never succeeds.",
                mend="Set HealthCheckProtocol: HTTPS and a HealthCheckPath.",
            )
        else:
            yield passed(group, "plaintext-hop")


def _asks_plainly(deployment: Deployment, group: Resource) -> bool:
    target = deployment.balancing.target_of(group)
    port = integer(group.properties.get("HealthCheckPort")) or integer(group.properties.get("Port"))
    listener = deployment.balancing.listener_on(target, port) if target else None
    is_tls = listener is not None and text(listener.properties.get("Protocol")) == "HTTPS"
    return is_tls and text(group.properties.get("HealthCheckProtocol")) == "HTTP"


def _check_domains(deployment: Deployment) -> Iterator[Finding]:
    for domain in deployment.templates.of(*DOMAINS):
        for path, mend in (
            (("NodeToNodeEncryptionOptions", "Enabled"), "Set NodeToNodeEncryptionOptions.Enabled: true."),
            (("DomainEndpointOptions", "EnforceHTTPS"), "Set DomainEndpointOptions.EnforceHTTPS: true."),
        ):
            value = at(domain.properties.get(path[0]), path[1])
            if flag(value) is True:
                yield passed(domain, "plaintext-hop")
            else:
                yield _plain(
                    domain,
                    at_=".".join(path),
                    said="The search domain takes or passes on what is not encrypted.",
                    mend=mend,
                    is_told=value is None or flag(value) is False,
                )


def _check_addresses(deployment: Deployment) -> Iterator[Finding]:
    owners: list[tuple[Resource, Mapping[str, Value]]] = []
    for task in deployment.workloads.tasks():
        owners += [(task.definition, container) for container in task.containers]
    for model in deployment.workloads.models():
        owners += [(model, container) for container in containers_of(model)]
    owners += [(function, function.properties) for function in deployment.templates.of(*FUNCTIONS)]
    for resource, container in owners:
        for name, value in environment_of(container).items():
            yield _check_address(resource, name, text(value))


def _check_address(resource: Resource, name: str, value: str) -> Finding:
    host = urlsplit(value).hostname if value.lower().startswith("http://") else None
    if host is None or _ON_THE_TASK.match(host):
        return passed(resource, "plaintext-hop")
    return _plain(
        resource,
        at_=f"Environment.{name}",
        said=f"It calls {host} by HTTP.",
        mend="Use an address with https://.",
    )


def _check_volumes(deployment: Deployment) -> Iterator[Finding]:
    for task in deployment.workloads.tasks():
        for volume in items(task.definition.properties.get("Volumes")):
            options = mapping(volume).get("EFSVolumeConfiguration")
            if options is not None and text(at(options, "TransitEncryption")) != "ENABLED":
                yield _plain(
                    task.definition,
                    at_="Volumes.EFSVolumeConfiguration.TransitEncryption",
                    said="It mounts a file system without encryption on the way.",
                    mend="Set TransitEncryption: ENABLED.",
                )


def _check_deadline(deployment: Deployment) -> Iterator[Finding]:
    for task in deployment.workloads.tasks():
        for service in task.services:
            for balanced in items(service.properties.get("LoadBalancers")):
                yield from _check_drain(deployment, balanced)
                for container in task.containers:
                    if text(container.get("Name")) == text(at(balanced, "ContainerName")):
                        yield _check_stop(deployment, task.definition, container)


def _check_drain(deployment: Deployment, balanced: Value) -> Iterator[Finding]:
    for target in targets(at(balanced, "TargetGroupArn")):
        value = attribute(target.resource, "deregistration_delay.timeout_seconds", of="TargetGroupAttributes")
        yield _hold(
            deployment,
            target.resource,
            at_="TargetGroupAttributes.deregistration_delay.timeout_seconds",
            seconds=_DEFAULT_DRAIN_S if value is None else integer(value),
        )


def _check_stop(deployment: Deployment, definition: Resource, container: Mapping[str, Value]) -> Finding:
    value = container.get("StopTimeout")
    seconds = _DEFAULT_STOP_S if value is None else integer(value)
    return _hold(
        deployment,
        definition,
        at_=f"ContainerDefinitions[{text(container.get('Name'))}].StopTimeout",
        seconds=seconds,
    )


def _hold(deployment: Deployment, resource: Resource, *, at_: str, seconds: int | None) -> Finding:
    """Hold a time-out against the deadline of the whole answer."""
    deadline_s = deployment.facts.answer_deadline_s
    if deadline_s is not None and seconds is not None and deadline_s <= seconds:
        return passed(resource, "deadline")
    is_told = deadline_s is not None and seconds is not None
    untold = "How long a whole answer may take" if deadline_s is None else "This time-out"
    return (refused if is_told else not_proven)(
        resource,
        "deadline",
        at=at_,
        message=f"An answer may take {deadline_s:g} s, and is cut after {seconds} s when a task is replaced."
        if deadline_s is not None and is_told
        else f"{untold} is not told, so answers may be cut when a task is replaced.",
        mend=f"Raise it to the answer's deadline or above (StopTimeout goes to {_LONGEST_STOP_S}), or "
        "lower the deadline."
        if is_told
        else "Say it in the facts: answer_deadline_s."
        if deadline_s is None
        else "Give the parameter a default.",
    )


MISTAKES = (
    Mistake(
        number=22,
        title="A plaintext hop, or a whole-answer deadline above the drain and stop time-outs",
        parts={
            "plaintext-hop": "HTTP on a listener or target group, TLS ended at an NLB, a domain without "
            "HTTPS or node-to-node encryption, an http:// address in an environment, a volume mounted "
            "without transit encryption",
            "deadline": "deregistration delay or StopTimeout is shorter than an answer may take",
        },
        why="A hop inside the VPC is a hop on somebody's network. When a task is replaced, its streams "
        "have the shorter of both time-outs to end, by default 300 s and 30 s.",
        mend="TLS on every hop; a deadline at or below both time-outs.",
        absent="no load balancer, domain, container or function",
        facts="answer_deadline_s",
        check=_check,
    ),
)
