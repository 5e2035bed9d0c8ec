"""7: the name that the consumer's clients connect to, and the certificates for it."""

from __future__ import annotations

from collections.abc import Iterator

from template_checks.findings import Deployment, Finding, judge, not_proven
from template_checks.networks import port_of
from template_checks.templates import Resource
from template_checks.values import Target, Unknown, Value, at, flag, items, refers_to, targets, text


def _check(deployment: Deployment) -> Iterator[Finding]:
    endpoints = [
        one for one in deployment.templates.of("AWS::EC2::VPCEndpoint") if _leads_to_private_service(one)
    ]
    for endpoint in endpoints:
        yield _check_private_dns(deployment, endpoint)
    records = _records(deployment, endpoints)
    listeners = list(_tls_listeners(deployment))
    names = [*deployment.facts.host_names, *(text(record.properties.get("Name")) for record in records)]
    names = list(dict.fromkeys(name.rstrip(".").lower() for name in names))
    for listener, certificates in listeners:
        yield from _check_certificates(deployment, listener, certificates, names=names)
    for record in () if listeners else records:
        yield _check_record(deployment, record)


def _leads_to_private_service(endpoint: Resource) -> bool:
    """Return whether it is an endpoint of somebody's endpoint service, not of an AWS service."""
    name = endpoint.properties.get("ServiceName")
    is_unknown = isinstance(name, Unknown) and text(endpoint.properties.get("VpcEndpointType")) == "Interface"
    return (
        "com.amazonaws.vpce." in text(name)
        or "vpce-svc-" in text(name)
        or is_unknown
        or any(target.resource.type == "AWS::EC2::VPCEndpointService" for target in targets(name))
    )


def _check_private_dns(deployment: Deployment, endpoint: Resource) -> Finding:
    is_right = not flag(endpoint.properties.get("PrivateDnsEnabled")) or deployment.facts.private_dns_verified
    is_unknown = isinstance(endpoint.properties.get("ServiceName"), Unknown)
    return judge(
        is_right or (None if is_unknown else False),
        endpoint,
        "consumer-private-dns",
        at="PrivateDnsEnabled",
        message="Private DNS of an endpoint service works only after its owner's domain is verified by a "
        "public TXT record and the connection is accepted; before that the endpoint cannot be made with it.",
        fix="Leave PrivateDnsEnabled off and put an alias to the endpoint into a private hosted zone of "
        "the consumer; in the second phase set private_dns_verified = true in the facts.",
    )


def _tls_listeners(deployment: Deployment) -> Iterator[tuple[Resource, list[Value]]]:
    """Yield the TLS listeners that consumers reach, with their certificates."""
    balancing = deployment.balancing
    found: list[Resource] = []
    for balancer in balancing.network:
        for listener in balancing.listeners(balancer):
            found.append(listener)
            for group in balancing.forwards(listener):
                target = balancing.named_target(group)
                if target is not None:
                    on_port = balancing.listener_on(target, port_of(group))
                    found += [on_port] if on_port else balancing.listeners(target)
    for listener in dict.fromkeys(found):
        certificates = items(listener.properties.get("Certificates"))
        for extra in deployment.templates.of("AWS::ElasticLoadBalancingV2::ListenerCertificate"):
            if refers_to(extra.properties.get("ListenerArn"), listener):
                certificates = [*certificates, *items(extra.properties.get("Certificates"))]
        if certificates:
            yield listener, [at(entry, "CertificateArn") for entry in certificates]


def _records(deployment: Deployment, endpoints: list[Resource]) -> list[Resource]:
    """Return the DNS records that lead to the endpoints or to a Network Load Balancer."""
    fronts = [*endpoints, *deployment.balancing.network]
    return [
        record
        for record in deployment.templates.of("AWS::Route53::RecordSet")
        if any(
            refers_to(record.properties.get(field), front)
            for field in ("AliasTarget", "ResourceRecords")
            for front in fronts
        )
    ]


def _check_certificates(
    deployment: Deployment, listener: Resource, certificates: list[Value], *, names: list[str]
) -> Iterator[Finding]:
    known = [_names_in(deployment, certificate) for certificate in certificates]
    if not names or None in known:
        missing = "The names in its certificate are" if names else "The name that clients connect to is"
        message = f"{missing} not in the templates."
        fix = "Give it in the facts: host_names, and certificates by ARN or by the parameter with it."
        yield not_proven(listener, "certificate-name", at="Certificates", message=message, fix=fix)
        return
    certified = [name for one in known if one is not None for name in one]
    for name in names:
        yield judge(
            _is_certified(certified, name),
            listener,
            "certificate-name",
            at="Certificates",
            message=f"Clients connect to {name}; the certificate is for {', '.join(certified) or 'no name'}.",
            fix=f"Use a certificate with {name} in it, or let clients connect to a name in the certificate.",
        )


def _names_in(deployment: Deployment, certificate: Value) -> list[str] | None:
    """Return the names in a certificate; None if unknown."""
    is_target = isinstance(certificate, Target)
    if is_target and certificate.resource.type == "AWS::CertificateManager::Certificate":
        properties = certificate.resource.properties
        alternatives = items(properties.get("SubjectAlternativeNames"))
        return [text(name).lower() for name in (properties.get("DomainName"), *alternatives)]
    stated = deployment.facts.certificates
    name = text(certificate)
    short = name.strip("${}").rpartition(".")[2] if isinstance(certificate, Unknown) else name
    found = stated.get(name) or stated.get(short)
    return None if found is None else [one.lower() for one in found]


def _is_certified(certified: list[str], name: str) -> bool:
    """Return whether a name is in a certificate; a wildcard stands for one label (RFC 6125)."""
    return name in certified or f"*.{name.partition('.')[2]}" in certified


def _check_record(deployment: Deployment, record: Resource) -> Finding:
    """Compare the consumer's record with the facts, if the listener is in another's templates."""
    certified = [name.lower() for names in deployment.facts.certificates.values() for name in names]
    name = text(record.properties.get("Name")).rstrip(".").lower()
    if not certified:
        message = f"The names in the service's certificate are unknown; clients connect to {name}."
        fix = "Give its names in the facts: certificates."
        return not_proven(record, "certificate-name", at="Name", message=message, fix=fix)
    message = f"Clients connect to {name}; the service's certificate is for {', '.join(certified)}."
    fix = "Name the record as the certificate does, or use a certificate with its name."
    return judge(
        _is_certified(certified, name), record, "certificate-name", at="Name", message=message, fix=fix
    )


CHECKS = {7: _check}
