"""22: plaintext hops, and answers that last longer than the drain and stop timeouts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, urlsplit

from template_checks.findings import GIVE_PARAMETER, Deployment, Finding, judge, passed
from template_checks.mistakes.search_domains import DOMAINS
from template_checks.networks import TARGET_GROUP, attribute, port_of
from template_checks.templates import Resource
from template_checks.values import Value, at, flag, integer, items, targets, text, texts_of
from template_checks.workloads import FUNCTIONS, Container, arguments_of, environment_of

# --- addresses and switches in values ---------------------------------------------------------------------
_ENCRYPTED = {
    "amqp": "amqps",
    "bolt": "bolt+s",
    "coap": "coaps",
    "ftp": "sftp",
    "grpc": "grpcs",
    "h2c": "https",
    "http": "https",
    "imap": "imaps",
    "ldap": "ldaps",
    "memcached": "a TLS listener",
    "mqtt": "mqtts",
    "nats": "tls",
    "neo4j": "neo4j+s",
    "plaintext": "SSL",
    "pop3": "pop3s",
    "redis": "rediss",
    "rtsp": "rtsps",
    "sasl_plaintext": "SASL_SSL",
    "sip": "sips",
    "smtp": "smtps",
    "stomp": "stomp+ssl",
    "syslog": "syslog+tls",
    "tcp": "tls",
    "telnet": "ssh",
    "tftp": "sftp",
    "udp": "dtls",
    "valkey": "valkeys",
    "ws": "wss",
    "xmpp": "xmpps",
}
"""A scheme without TLS = the one with it."""
_BY_QUERY = ("cockroachdb", "mariadb", "mongodb", "mysql", "postgres", "postgresql", "redshift", "sqlserver")
"""Schemes with a parameter for TLS."""
_SWITCHES = ("encrypt", "ssl", "sslmode", "ssl-mode", "ssl_mode", "tls", "usessl", "use_ssl", "security")
_OFF = ("0", "disable", "disabled", "false", "no", "none", "off", "plaintext", "insecure")
_OPTIONAL = ("allow", "prefer", "preferred", "optional")
"""Modes in which a client continues in plaintext if the server offers no TLS."""
_TLS_MODE = re.compile(r"(?:PG)?SSL_?MODE|NODE_TLS_REJECT_UNAUTHORIZED", re.I)
_PROTOCOL = re.compile(r"(?:^|_)(?:SECURITY_)?PROTOCOL$", re.I)
_ON_THE_TASK = re.compile(r"^(?:localhost|127\.[\d.]+|::1|0\.0\.0\.0|169\.254\.[\d.]+)$")
_ADDRESS = re.compile(r"^(?:jdbc:|[a-z]+\+(?=[a-z]+://))?([a-z][a-z0-9+.-]*)://", re.I)
_NAMES_TLS = re.compile(
    r"(?:^|_)(?:TLS|SSL|HTTPS|MTLS)(?:_(?:ENABLED|ENABLE|MODE|ON|REQUIRED|VERIFY|ENFORCED))?$", re.I
)
_WITHOUT = re.compile(r"(?:DISABLE|INSECURE|SKIP|NO|WITHOUT|ALLOW_PLAIN|PLAINTEXT)(?:_|$)", re.I)
_TURNS_OFF = re.compile(
    r"(?:^|_)(?:(?:DISABLE|SKIP|NO|WITHOUT)_(?:TLS|SSL|HTTPS)(?:_VERIFY)?|(?:TLS|SSL)_(?:DISABLED?|SKIP_VERIFY|INSECURE))$"
    r"|_INSECURE$",
    re.I,
)


def plaintext_in(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield what a variable sends in plaintext ("calls host by scheme"), with what to write instead.

    A value is read as an address, a list of addresses, or JSON with addresses in it.
    """
    for variable, leaf in texts_of(name, value):
        yield from _plaintext_addresses(leaf)
        yield from _plaintext_switches(variable, leaf)


def _plaintext_addresses(value: str) -> Iterator[tuple[str, str]]:
    if _ADDRESS.match(value.strip()) is None:
        return  # nothing calls an address in the middle of a sentence
    for address in re.split(r"[\s,;|]+", value.strip()):
        match = _ADDRESS.match(address)
        if match is None:
            continue
        scheme = match[1].lower()
        try:
            parts = urlsplit(address[address.lower().index(f"{scheme}://") :])
            host, query = parts.hostname or "", parts.query
        except ValueError:
            host, query = address, ""
        instead = _ENCRYPTED.get(scheme) or _without_tls(scheme, query)
        if instead and not _ON_THE_TASK.match(host):
            yield f"calls {host} by {scheme}", f"Use an address with {instead}."


def _without_tls(scheme: str, query: str) -> str | None:
    if scheme.partition("+")[0] in _BY_QUERY:
        for key, value in parse_qsl(query):
            if key.lower() in _SWITCHES and value.lower() in (*_OFF, *_OPTIONAL):
                return f"{key} that requires TLS"
    return None


def _plaintext_switches(name: str, value: str) -> Iterator[tuple[str, str]]:
    said = f"has {name} {value}"
    if _NAMES_TLS.search(name) and not _WITHOUT.search(name) and value.strip().lower() in _OFF:
        yield said, f"Switch {name} on."
    if _TURNS_OFF.search(name) and value.strip().lower() in ("1", "true", "yes", "on"):
        yield said, f"Remove {name}."
    if _TLS_MODE.fullmatch(name) and value.lower() in (*_OFF, *_OPTIONAL):
        yield said, f"Set {name} to a value that requires TLS."
    if _PROTOCOL.search(name) and value.lower() in ("http", "plaintext", "sasl_plaintext"):
        yield said, f"Set {name} to one with TLS."


# --- hops -------------------------------------------------------------------------------------------------
_HTTP = 80


def _check(deployment: Deployment) -> Iterator[Finding]:
    yield from _check_listeners(deployment)
    for group in deployment.templates.of(TARGET_GROUP):
        yield _check_target_group(deployment, group)
    yield from _check_addresses(deployment)
    for kind, switches in _STORES.items():
        for resource in deployment.templates.of(kind):
            for path, right, default in switches:
                yield _check_switch(resource, path, right=right, default=default)
    yield from _check_others(deployment)
    yield from _check_volumes(deployment)
    yield from _check_timeouts(deployment)


def _plaintext(resource: Resource, *, at: str, said: str, fix: str, is_known: bool = True) -> Finding:
    return judge(
        False if is_known else None,
        resource,
        "plaintext-hop",
        at=at,
        message=f"{said} Questions and answers pass in plaintext.",
        fix=fix,
    )


def _check_listeners(deployment: Deployment) -> Iterator[Finding]:
    balancing = deployment.balancing
    for balancer in [*balancing.application, *balancing.network]:
        for listener in balancing.listeners(balancer):
            if text(listener.properties.get("Protocol")) != "TLS":
                yield _check_listener(deployment, listener)
                continue
            for group in balancing.forwards(listener):
                protocol = text(group.properties.get("Protocol"))
                yield (
                    passed(group, "plaintext-hop")
                    if protocol == "TLS"
                    else _plaintext(
                        group,
                        at="Protocol",
                        said=f"TLS ends at {listener.logical_id}, which forwards {protocol}.",
                        fix="Set Protocol: TLS on the target group, or pass TLS through with a TCP listener.",
                    )
                )


def _check_listener(deployment: Deployment, listener: Resource) -> Finding:
    protocol = text(listener.properties.get("Protocol"))
    actions = {text(at(action, "Type")) for action in deployment.balancing.actions(listener)}
    if protocol == "HTTP" and actions - {"redirect", "fixed-response"}:
        return _plaintext(
            listener,
            at="Protocol",
            said="The listener takes HTTP.",
            fix="Set Protocol: HTTPS with a certificate; a listener on 80 may only redirect.",
        )
    if protocol == "TCP" and port_of(listener) == _HTTP:
        return _plaintext(
            listener,
            at="Port",
            said="The listener forwards port 80.",
            fix="Listen on 443 and let TLS end at the target.",
        )
    if "${" in protocol:
        said = f"Its protocol, {protocol}, is unknown."
        return _plaintext(listener, at="Protocol", said=said, fix=GIVE_PARAMETER, is_known=False)
    return passed(listener, "plaintext-hop")


def _check_target_group(deployment: Deployment, group: Resource) -> Finding:
    protocol = text(group.properties.get("Protocol"))
    kind = text(group.properties.get("TargetType"))
    health = text(group.properties.get("HealthCheckProtocol"))
    if protocol == "HTTP" or (not protocol and kind in ("ip", "instance")):
        return _plaintext(
            group,
            at="Protocol",
            said="It forwards requests by HTTP.",
            fix="Set Protocol: HTTPS, and let the target serve TLS on its port.",
        )
    if protocol == "TCP" and port_of(group) == _HTTP:
        return _plaintext(
            group,
            at="Port",
            said="It forwards connections to port 80.",
            fix="Use the port on which the target serves TLS.",
        )
    if "${" in protocol or "${" in health:
        place = "Protocol" if "${" in protocol else "HealthCheckProtocol"
        return _plaintext(
            group, at=place, said="Its protocol is unknown.", fix=GIVE_PARAMETER, is_known=False
        )
    if _has_http_health_check(deployment, group, protocol=protocol, kind=kind):
        return _plaintext(
            group,
            at="HealthCheckProtocol",
            said=f"Its health check uses HTTP{'.' if health else ', the default.'} On a TLS port that never "
            "succeeds; on another it is a hop in plaintext.",
            fix="Set HealthCheckProtocol: HTTPS and a HealthCheckPath.",
        )
    return passed(group, "plaintext-hop")


def _has_http_health_check(deployment: Deployment, group: Resource, *, protocol: str, kind: str) -> bool:
    """Return whether a health check uses HTTP: the default for targets of an ALB, and for ALBs."""
    health = text(group.properties.get("HealthCheckProtocol"))
    if flag(group.properties.get("HealthCheckEnabled")) is False or kind == "lambda":
        return False
    if health != "HTTP" and (health or (protocol != "HTTPS" and kind != "alb")):
        return False
    if kind != "alb":
        return True
    # A health check may use a listener of the ALB on 80 that only answers or redirects.
    target = deployment.balancing.named_target(group)
    port = integer(group.properties.get("HealthCheckPort")) or integer(group.properties.get("Port"))
    listener = deployment.balancing.listener_on(target, port) if target else None
    return listener is None or text(listener.properties.get("Protocol")) == "HTTPS"


_Switch = tuple[tuple[str, ...], str, str | None]
_DOMAIN: tuple[_Switch, ...] = (
    (("NodeToNodeEncryptionOptions", "Enabled"), "true", None),
    (("DomainEndpointOptions", "EnforceHTTPS"), "true", None),
)
_STORES: Mapping[str, tuple[_Switch, ...]] = {
    **dict.fromkeys(DOMAINS, _DOMAIN),
    "AWS::ElastiCache::ReplicationGroup": ((("TransitEncryptionEnabled",), "true", "false"),),
    "AWS::DAX::Cluster": ((("ClusterEndpointEncryptionType",), "tls", "NONE"),),
    "AWS::MemoryDB::Cluster": ((("TLSEnabled",), "true", "true"),),
    "AWS::MSK::Cluster": (
        (("EncryptionInfo", "EncryptionInTransit", "ClientBroker"), "tls", "TLS"),
        (("EncryptionInfo", "EncryptionInTransit", "InCluster"), "true", "true"),
    ),
}
"""Type = each property that decides whether it takes plaintext, its right value, and its default."""


def _check_switch(resource: Resource, path: tuple[str, ...], *, right: str, default: str | None) -> Finding:
    value = at(dict(resource.properties), *path)
    said = text(default if value is None else value)
    if said.lower() == right:
        return passed(resource, "plaintext-hop")
    return _plaintext(
        resource,
        at=".".join(path),
        said=f"Its {path[-1]} is {said or 'absent'}, so it takes unencrypted data.",
        fix=f"Set {'.'.join(path)} to {right}.",
        is_known="${" not in said,
    )


def _check_others(deployment: Deployment) -> Iterator[Finding]:
    for topic in deployment.templates.of("AWS::SNS::Subscription"):
        if text(topic.properties.get("Protocol")) == "http":
            said = "Messages are delivered by HTTP."
            yield _plaintext(topic, at="Protocol", said=said, fix="Set Protocol: https.")
    for balancer in deployment.templates.of("AWS::ElasticLoadBalancing::LoadBalancer"):
        for listener in items(balancer.properties.get("Listeners")):
            protocols = [text(at(listener, name)) or "HTTP" for name in ("Protocol", "InstanceProtocol")]
            if any(protocol.upper() == "HTTP" for protocol in protocols):
                yield _plaintext(
                    balancer,
                    at="Listeners",
                    said="A listener takes or forwards HTTP.",
                    fix="Set Protocol and InstanceProtocol: HTTPS.",
                )


def _check_volumes(deployment: Deployment) -> Iterator[Finding]:
    for task in deployment.workloads.tasks():
        for volume in items(task.definition.properties.get("Volumes")):
            options = at(volume, "EFSVolumeConfiguration")
            said = text(at(options, "TransitEncryption"))
            if options is not None and said != "ENABLED":
                yield _plaintext(
                    task.definition,
                    at="Volumes.EFSVolumeConfiguration.TransitEncryption",
                    said="It mounts a file system without encryption in transit.",
                    fix="Set TransitEncryption: ENABLED.",
                    is_known="${" not in said,
                )


# --- called addresses -------------------------------------------------------------------------------------
_IS_CALLED = re.compile(
    r"(?<!Allowed)(?<!Allow)(?:Ur[il]|URI|URL|Endpoint|Address|Origin|Webhook|Broker|Upstream|Server)s?$"
)
"""Name of a property whose value is called; environments are read apart. Origins allowed by CORS
(``AllowedOrigins``) are not called."""


def _check_addresses(deployment: Deployment) -> Iterator[Finding]:
    owners = [
        *deployment.workloads.containers(),
        *((function, function.properties) for function in deployment.templates.of(*FUNCTIONS)),
    ]
    for resource, container in owners:
        for name, value in environment_of(container).items():
            found = list(_check_value(resource, f"Environment.{name}", name, text(value)))
            yield from found or [passed(resource, "plaintext-hop")]
        for argument in arguments_of(container):
            for part in re.split(r"[\s=]+", argument):  # --upstream=http://…, or a line for a shell
                yield from _check_value(resource, "Command", "", part)
    for resource in deployment.templates.of():
        # Few have an address in them, or in a parameter or mapping of their template; only they are resolved.
        sections = [resource.template.section(name) for name in ("Parameters", "Mappings")]
        if "://" in json.dumps([resource.raw.get("Properties"), *sections], default=str):
            yield from _check_fields(resource, "", dict(resource.properties))


def _check_value(resource: Resource, path: str, name: str, value: str) -> Iterator[Finding]:
    for what, instead in plaintext_in(name, value):
        yield _plaintext(resource, at=path, said=f"It {what}.", fix=instead)


def _check_fields(resource: Resource, path: str, value: Value) -> Iterator[Finding]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _check_fields(resource, f"{path}.{name}".lstrip("."), item)
    elif isinstance(value, list):
        for item in value:
            yield from _check_fields(resource, path, item)
    elif _IS_CALLED.search(path):
        yield from _check_value(resource, path, "", text(value))


# --- timeouts ---------------------------------------------------------------------------------------------
_DRAIN = "deregistration_delay.timeout_seconds"
_DEFAULT_DRAIN_S = 300
_DEFAULT_STOP_S = 30
_LONGEST_STOP_S = 120
"""Fargate allows no more."""


def _check_timeouts(deployment: Deployment) -> Iterator[Finding]:
    for task in deployment.workloads.tasks():
        for service in task.services:
            for balanced in items(service.properties.get("LoadBalancers")):
                for target in targets(at(balanced, "TargetGroupArn")):
                    value = attribute(target.resource, _DRAIN, of="TargetGroupAttributes")
                    seconds = _DEFAULT_DRAIN_S if value is None else integer(value)
                    path = f"TargetGroupAttributes.{_DRAIN}"
                    yield _check_timeout(deployment, target.resource, path, seconds=seconds)
                name = text(at(balanced, "ContainerName"))
                for container in task.containers:
                    if text(container.get("Name")) == name:
                        path = f"ContainerDefinitions[{name}].StopTimeout"
                        seconds = _stop_timeout_s(container)
                        yield _check_timeout(deployment, task.definition, path, seconds=seconds)


def _stop_timeout_s(container: Container) -> int | None:
    value = container.get("StopTimeout")
    return _DEFAULT_STOP_S if value is None else integer(value)


def _check_timeout(deployment: Deployment, resource: Resource, path: str, *, seconds: int | None) -> Finding:
    """Compare a timeout with the deadline of the whole answer."""
    deadline_s = deployment.facts.answer_deadline_s
    if deadline_s is not None and seconds is not None:
        return judge(
            deadline_s <= seconds,
            resource,
            "deadline",
            at=path,
            message=f"An answer may take {deadline_s:g} s, and is cut after {seconds} s when a task is "
            "replaced.",
            fix=f"Raise it to the answer's deadline or above (StopTimeout may be {_LONGEST_STOP_S}), or "
            "lower the deadline.",
        )
    unknown = "The longest answer" if deadline_s is None else "This timeout"
    return judge(
        None,
        resource,
        "deadline",
        at=path,
        message=f"{unknown} is unknown, so answers may be cut when a task is replaced.",
        fix="Give it in the facts: answer_deadline_s." if deadline_s is None else GIVE_PARAMETER,
    )


CHECKS = {22: _check}
