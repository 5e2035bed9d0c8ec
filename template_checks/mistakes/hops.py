"""22: plaintext on the way, and answers that outlive their connection."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.mistakes.zones import DOMAINS
from template_checks.networks import TARGET_GROUP, attribute, port_of
from template_checks.schemes import plaintext_in
from template_checks.templates import Resource
from template_checks.values import Value, at, flag, integer, items, mapping, targets, text
from template_checks.workloads import FUNCTIONS, containers_of, environment_of

_HTTP = 80
_DEFAULT_DRAIN_S = 300
_DEFAULT_STOP_S = 30
_LONGEST_STOP_S = 120
"""That Fargate allows."""


def _check(deployment: Deployment) -> Iterator[Finding]:
    yield from _check_listeners(deployment)
    yield from _check_target_groups(deployment)
    yield from _check_domains(deployment)
    yield from _check_addresses(deployment)
    yield from _check_stores(deployment)
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
        health = group.properties.get("HealthCheckProtocol")
        if protocol == "HTTP" or (not protocol and kind in ("ip", "instance")):
            yield _plain(
                group,
                at_="Protocol",
                said="It passes requests on by HTTP.",
                mend="Set Protocol: HTTPS, and let the target serve TLS on its port.",
            )
        elif protocol == "TCP" and port_of(group) == _HTTP:
            yield _plain(
                group,
                at_="Port",
                said="It passes connections on to port 80.",
                mend="Send to the port on which the target serves TLS.",
            )
        elif "${" in protocol or "${" in text(health):
            yield _plain(
                group,
                at_="Protocol" if "${" in protocol else "HealthCheckProtocol",
                said="Its protocol is not told.",
                mend="Give the parameter a default.",
                is_told=False,
            )
        elif _asks_by_http(deployment, group, protocol=protocol, kind=kind):
            yield _plain(
                group,
                at_="HealthCheckProtocol",
                said="Its health check asks by HTTP"
                + (", the default." if health is None else ".")
                + " On a TLS port that never succeeds; on another it is a hop in plaintext.",
                mend="Set HealthCheckProtocol: HTTPS and a HealthCheckPath.",
            )
        else:
            yield passed(group, "plaintext-hop")


def _asks_by_http(deployment: Deployment, group: Resource, *, protocol: str, kind: str) -> bool:
    """Return whether a target's health is asked by HTTP: the default of what an ALB sends to, and of ALBs."""
    said = text(group.properties.get("HealthCheckProtocol"))
    if flag(group.properties.get("HealthCheckEnabled")) is False or kind == "lambda":
        return False
    if said != "HTTP" and (said or (protocol != "HTTPS" and kind != "alb")):
        return False
    if kind != "alb":
        return True
    # A listener of the ALB that only answers or redirects on 80 may be asked.
    target = deployment.balancing.target_of(group)
    port = integer(group.properties.get("HealthCheckPort")) or integer(group.properties.get("Port"))
    listener = deployment.balancing.listener_on(target, port) if target else None
    return listener is None or text(listener.properties.get("Protocol")) == "HTTPS"


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
            yield from _check_address(resource, name, text(value))
        for value in (*items(container.get("EntryPoint")), *items(container.get("Command"))):
            yield from _check_argument(resource, text(value))
    yield from _check_targets(deployment)


def _check_address(resource: Resource, name: str, value: str) -> Iterator[Finding]:
    found = list(plaintext_in(name, value))
    for what, instead in found:
        yield _plain(resource, at_=f"Environment.{name}", said=f"It {what}.", mend=instead)
    if not found:
        yield passed(resource, "plaintext-hop")


def _check_argument(resource: Resource, value: str) -> Iterator[Finding]:
    for part in re.split(r"[\s=]+", value):  # --upstream=http://…, or a line for a shell
        for what, instead in plaintext_in("", part):
            yield _plain(resource, at_="Command", said=f"It {what}.", mend=instead)


def _check_targets(deployment: Deployment) -> Iterator[Finding]:
    """Look at what any resource calls: whatever is named as an address."""
    for resource in deployment.templates.of():
        if "://" in json.dumps(resource.raw.get("Properties"), default=str) or _hands_on_addresses(resource):
            yield from _check_fields(resource, "", dict(resource.properties))


def _hands_on_addresses(resource: Resource) -> bool:
    """Return whether a parameter's default or a mapping of its template is an address."""
    sections = [resource.template.section(name) for name in ("Parameters", "Mappings")]
    return any("://" in json.dumps(section, default=str) for section in sections)


def _check_fields(resource: Resource, path: str, value: Value) -> Iterator[Finding]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _check_fields(resource, f"{path}.{name}".lstrip("."), item)
    elif isinstance(value, list):
        for item in value:
            yield from _check_fields(resource, path, item)
    elif _IS_CALLED.search(path):
        for what, instead in plaintext_in("", text(value)):
            yield _plain(resource, at_=path, said=f"It {what}.", mend=instead)


_IS_CALLED = re.compile(
    r"(?<!Allowed)(?<!Allow)(?:Ur[il]|URI|URL|Endpoint|Address|Origin|Webhook|Broker|Upstream|Server)s?$"
)
"""The name of a property whose value is called; an environment is looked at apart. Who may ask by CORS
(``AllowedOrigins``) is not called."""


def _check_stores(deployment: Deployment) -> Iterator[Finding]:
    """Look at what else keeps or carries data and has a switch for TLS."""
    for kind, paths in _SWITCHES.items():
        for resource in deployment.templates.of(kind):
            for path, right, default in paths:
                value = at(dict(resource.properties), *path)
                said = text(default if value is None else value)
                if said.lower() == right:
                    yield passed(resource, "plaintext-hop")
                else:
                    yield _plain(
                        resource,
                        at_=".".join(path),
                        said=f"Its {path[-1]} is {said or 'absent'}, so it takes what is not encrypted.",
                        mend=f"Set {path[-1]} to {right}.",
                        is_told="${" not in said,
                    )
    for topic in deployment.templates.of("AWS::SNS::Subscription"):
        if text(topic.properties.get("Protocol")) == "http":
            yield _plain(
                topic, at_="Protocol", said="Messages are delivered by HTTP.", mend="Set Protocol: https."
            )
    for balancer in deployment.templates.of("AWS::ElasticLoadBalancing::LoadBalancer"):
        for listener in items(balancer.properties.get("Listeners")):
            protocols = [text(at(listener, name)) or "HTTP" for name in ("Protocol", "InstanceProtocol")]
            if any(protocol.upper() == "HTTP" for protocol in protocols):
                yield _plain(
                    balancer,
                    at_="Listeners",
                    said="A listener takes HTTP or passes it on.",
                    mend="Set Protocol and InstanceProtocol: HTTPS.",
                )


_SWITCHES: Mapping[str, tuple[tuple[tuple[str, ...], str, str | None], ...]] = {
    "AWS::ElastiCache::ReplicationGroup": ((("TransitEncryptionEnabled",), "true", "false"),),
    "AWS::DAX::Cluster": ((("ClusterEndpointEncryptionType",), "tls", "NONE"),),
    "AWS::MemoryDB::Cluster": ((("TLSEnabled",), "true", "true"),),
    "AWS::MSK::Cluster": (
        (("EncryptionInfo", "EncryptionInTransit", "ClientBroker"), "tls", "TLS"),
        (("EncryptionInfo", "EncryptionInTransit", "InCluster"), "true", "true"),
    ),
}
"""Type = each property that says whether it takes plaintext, what it must be, and its default."""


def _check_volumes(deployment: Deployment) -> Iterator[Finding]:
    for task in deployment.workloads.tasks():
        for volume in items(task.definition.properties.get("Volumes")):
            options = mapping(volume).get("EFSVolumeConfiguration")
            said = text(at(options, "TransitEncryption"))
            if options is not None and said != "ENABLED":
                yield _plain(
                    task.definition,
                    at_="Volumes.EFSVolumeConfiguration.TransitEncryption",
                    said="It mounts a file system without encryption on the way.",
                    mend="Set TransitEncryption: ENABLED.",
                    is_told="${" not in said,
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
            "plaintext-hop": "HTTP on a listener, target group or health check, TLS ended at an NLB, a "
            "domain without HTTPS or node-to-node encryption, an address of a scheme without TLS (http, ws, "
            "redis, …) or a switch of TLS that is off in an environment, a cache or volume without transit "
            "encryption",
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
