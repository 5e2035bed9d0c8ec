"""7: the name that the consumer dials."""

from __future__ import annotations

from collections.abc import Iterator

from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.networks import key_matches, port_of
from template_checks.templates import Resource
from template_checks.values import Target, Unknown, Value, at, flag, items, targets, text

_ENDPOINT = "AWS::EC2::VPCEndpoint"
_SERVICE = "AWS::EC2::VPCEndpointService"


def _check(deployment: Deployment) -> Iterator[Finding]:
    endpoints = [one for one in deployment.templates.of(_ENDPOINT) if _leads_to_a_private_service(one)]
    for endpoint in endpoints:
        yield _check_private_dns(deployment, endpoint)
    listeners = list(_dialled_listeners(deployment))
    names = _dialled_names(deployment, endpoints)
    for listener, certificate in listeners:
        yield from _check_certificate(deployment, listener, certificate, names=names)
    if not listeners:
        yield from _check_records(deployment, endpoints)


def _leads_to_a_private_service(endpoint: Resource) -> bool:
    """Return whether it is an endpoint of somebody's endpoint service, not of an AWS service."""
    name = endpoint.properties.get("ServiceName")
    is_unknown = isinstance(name, Unknown) and text(endpoint.properties.get("VpcEndpointType")) == "Interface"
    return (
        "com.amazonaws.vpce." in text(name)
        or "vpce-svc-" in text(name)
        or is_unknown
        or any(target.resource.type == _SERVICE for target in targets(name))
    )


def _check_private_dns(deployment: Deployment, endpoint: Resource) -> Finding:
    if not flag(endpoint.properties.get("PrivateDnsEnabled")) or deployment.facts.private_dns_verified:
        return passed(endpoint, "consumer-private-dns")
    is_told = not isinstance(endpoint.properties.get("ServiceName"), Unknown)
    return (refused if is_told else not_proven)(
        endpoint,
        "consumer-private-dns",
        at="PrivateDnsEnabled",
        message="Private DNS of an endpoint service works only once its owner's domain is verified by a "
        "public TXT record and the connection is accepted; until then the endpoint cannot be made with it.",
        mend="Leave PrivateDnsEnabled off and put an alias to the endpoint into a private hosted zone of "
        "the consumer; in the second phase say private_dns_verified = true in the facts.",
    )


def _dialled_listeners(deployment: Deployment) -> Iterator[tuple[Resource, Value]]:
    """Yield the TLS listeners that consumers reach, with each of their certificates."""
    balancing = deployment.balancing
    found: list[Resource] = []
    for balancer in balancing.network:
        for listener in balancing.listeners(balancer):
            found.append(listener)
            for group in balancing.forwards(listener):
                target = balancing.target_of(group)
                if target is not None:
                    on_port = balancing.listener_on(target, port_of(group))
                    found += [on_port] if on_port else balancing.listeners(target)
    for listener in dict.fromkeys(found):
        certificates = items(listener.properties.get("Certificates"))
        for extra in deployment.templates.of("AWS::ElasticLoadBalancingV2::ListenerCertificate"):
            if key_matches(extra.properties.get("ListenerArn"), listener):
                certificates = [*certificates, *items(extra.properties.get("Certificates"))]
        if certificates:
            yield listener, [at(entry, "CertificateArn") for entry in certificates]


def _dialled_names(deployment: Deployment, endpoints: list[Resource]) -> list[str]:
    """Return what clients dial: from the facts, and from records that lead to the endpoints."""
    names = list(deployment.facts.host_names)
    names += [text(record.properties.get("Name")) for record in _records(deployment, endpoints)]
    return list(dict.fromkeys(name.rstrip(".").lower() for name in names))


def _records(deployment: Deployment, endpoints: list[Resource]) -> list[Resource]:
    fronts = [*endpoints, *deployment.balancing.network]
    return [
        record
        for record in deployment.templates.of("AWS::Route53::RecordSet")
        if any(
            target.resource in fronts
            for field in ("AliasTarget", "ResourceRecords")
            for target in targets(record.properties.get(field))
        )
    ]


def _check_certificate(
    deployment: Deployment, listener: Resource, certificates: Value, *, names: list[str]
) -> Iterator[Finding]:
    known = [_names_of(deployment, certificate) for certificate in items(certificates)]
    if not names or None in known:
        missing = "the name that clients dial" if not names else "the names in its certificate"
        yield not_proven(
            listener,
            "certificate-name",
            at="Certificates",
            message=f"The templates do not tell {missing}.",
            mend="Say it in the facts: host_names, and certificates by ARN or by the parameter that "
            "brings it.",
        )
        return
    certified = [name for one in known if one is not None for name in one]
    for name in names:
        if any(_certifies(certificate, name) for certificate in certified):
            yield passed(listener, "certificate-name")
        else:
            yield refused(
                listener,
                "certificate-name",
                at="Certificates",
                message=f"Clients dial {name}; the certificate is for {', '.join(certified) or 'no name'}.",
                mend=f"Use a certificate with {name} in it, or let clients dial a name that it has.",
            )


def _names_of(deployment: Deployment, certificate: Value) -> list[str] | None:
    """Return the names in a certificate; None where neither templates nor facts tell."""
    if (
        isinstance(certificate, Target)
        and certificate.resource.type == "AWS::CertificateManager::Certificate"
    ):
        properties = certificate.resource.properties
        alternatives = items(properties.get("SubjectAlternativeNames"))
        return [text(name).lower() for name in (properties.get("DomainName"), *alternatives)]
    stated = deployment.facts.certificates
    name = text(certificate)
    short = name.strip("${}").rpartition(".")[2] if isinstance(certificate, Unknown) else name
    found = stated.get(name) or stated.get(short)
    return None if found is None else [one.lower() for one in found]


def _certifies(certificate: str, name: str) -> bool:
    if certificate.startswith("*."):  # one label, as RFC 6125 reads a wildcard
        return name.partition(".")[2] == certificate[2:]
    return certificate == name


def _check_records(deployment: Deployment, endpoints: list[Resource]) -> Iterator[Finding]:
    """Hold the consumer's records against the facts where the listener is another's."""
    certified = [name.lower() for names in deployment.facts.certificates.values() for name in names]
    for record in _records(deployment, endpoints):
        name = text(record.properties.get("Name")).rstrip(".").lower()
        if any(_certifies(certificate, name) for certificate in certified):
            yield passed(record, "certificate-name")
        else:
            yield (refused if certified else not_proven)(
                record,
                "certificate-name",
                at="Name",
                message=f"Whether the service's certificate is for {name} is not told."
                if not certified
                else f"Clients dial {name}; the service's certificate is for {', '.join(certified)}.",
                mend="Say its names in the facts: certificates."
                if not certified
                else "Name the record as the certificate does, or use a certificate with its name.",
            )


MISTAKES = (
    Mistake(
        number=7,
        title="Consumer private DNS in the first phase, or a certificate for another name",
        parts={
            "consumer-private-dns": "the consumer's endpoint has private DNS on before the service's "
            "domain is verified",
            "certificate-name": "no certificate of the listener is for the name that clients dial",
        },
        why="An endpoint service's private DNS name needs a public TXT record and an accepted connection, "
        "so the first deployment with it fails. TLS fails where the certificate does not have the dialled "
        "name.",
        mend="A private hosted zone in the consumer's VPC with an alias to the endpoint; a certificate "
        "for its name.",
        absent="no endpoint of an endpoint service, and no TLS listener that one reaches",
        facts="host_names, certificates",
        check=_check,
    ),
)
