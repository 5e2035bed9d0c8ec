"""The care side's file, ``care_app/<tenant>.toml``: account and network of the care team's application, and
the endpoint service of the tenant's assistant.

It is a separate file because the owner of the care account owns it, and because it holds outputs of the
tenant's deployment: in the tenant file, adding them would replace the tenant's tasks. Host name, issuer and
audience come from the tenant file.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

from pydantic import Field

from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployment import CidrBlock, NetworkSection, ParameterName, PlaceSection
from assistant.tenant.deployment_checks import network_contradictions
from assistant.tenant.tenant import TenantConfig, TenantName
from assistant.tenant.toml_file import StrictModel, read_strict


class LinkSection(StrictModel):
    """``[link]``: the private link to the assistant."""

    service_name: str = Field(pattern=r"^com\.amazonaws\.vpce\.[a-z0-9-]+\.vpce-svc-[0-9a-f]{8,17}$")
    """Output EndpointServiceName of the tenant's edge stack."""
    client_cidrs: tuple[CidrBlock, ...] = Field(min_length=1)
    """Clients in the VPC; each block within the tenant's ``edge.consumer_cidrs``."""
    names: Literal["zone", "none", "service"] = "zone"
    """How the host name resolves to the endpoint: by a private zone of this VPC; by the company's own DNS
    (``none``); or by the service's private DNS, in a phase after acceptance. Change from ``zone`` to
    ``service`` through ``none``: a VPC cannot have two zones of one name, not even during a deployment."""


class ProbeSection(StrictModel):
    """``[probe]``: the question that the probe asks every five minutes."""

    question: str = Field(min_length=1, max_length=500)
    """One that the tenant's knowledge answers, without patient data: templates show it."""
    certificate_authority: str | None = None
    """PEM file, in the same folder, of the private CA of the tenant's certificate; absent for a public CA."""
    client_certificate_parameter: ParameterName | None = None
    """SSM SecureString with a client certificate, its chain and private key in PEM. Needed when the tenant
    file has ``edge.client_certificates``. It exists before the deployment and belongs to no stack."""
    alarm_email: str | None = Field(default=None, pattern=r"^[^\s@]+@[^\s@]+$")


class CareAppConfig(StrictModel):
    schema_version: Literal[1]
    tenant: TenantName
    """Equals the names of this file and of the tenant file."""
    deployment: PlaceSection
    """Account, region and zones of the care side."""
    network: NetworkSection
    """The VPC of the clients: the care team's own (``vpc``; its resolver AmazonProvidedDNS, with DNS support
    and host names on), or a small isolated one (``cidr``) to test the link."""
    link: LinkSection
    probe: ProbeSection


@dataclass(frozen=True, slots=True, kw_only=True)
class CareApp:
    """The file, with the content of the file that it names."""

    config: CareAppConfig
    certificate_authority: str | None
    """Content of ``probe.certificate_authority``."""


_MAX_PEM_CHARACTERS = 2600
"""The certificate is in the environment of the probe's function, which takes 4 KB in all."""


def load_care_app(path: Path, *, tenant: TenantConfig) -> CareApp:
    """Read the file of one care side. Raises ConfigurationError naming file, key and what is allowed."""
    config = read_strict(path, CareAppConfig)
    errors = _against_tenant(config, tenant)
    if config.tenant != path.stem:
        errors.append(f'tenant = "{config.tenant}" must equal the file\'s name, "{path.stem}"')
    if errors:
        raise ConfigurationError(f"{path}: {'; '.join(errors)}.")
    name = config.probe.certificate_authority
    return CareApp(config=config, certificate_authority=_read_pem(path, name) if name else None)


def _against_tenant(config: CareAppConfig, tenant: TenantConfig) -> list[str]:
    """Return the contradictions between the two files."""
    if tenant.deployment is None or tenant.edge is None:
        return [f"the tenant {tenant.name} is only served locally"]
    errors: list[str] = []
    region = tenant.deployment.region
    if config.deployment.region != region:
        errors.append(f'deployment.region must be that of the tenant, "{region}"')
    if f".{region}." not in config.link.service_name:
        errors.append(f"link.service_name is of another region than the tenant's, {region}")
    if config.link.names == "service" and not tenant.edge.service_private_dns:
        errors.append('link.names = "service" needs edge.service_private_dns = true in the tenant file')
    if tenant.edge.client_certificates and config.probe.client_certificate_parameter is None:
        errors.append("probe.client_certificate_parameter is needed: the tenant asks for client certificates")
    errors += [
        f"{item.key}: {item.said}" for item in network_contradictions(config.network, config.deployment)
    ]
    return errors + _not_allowed_in(config, tuple(IPv4Network(cidr) for cidr in tenant.edge.consumer_cidrs))


def _not_allowed_in(config: CareAppConfig, allowed: tuple[IPv4Network, ...]) -> list[str]:
    """Return an error for each block of clients, and for the probe's network, that is not within ``allowed``:
    the tenant's load balancer sees the clients' addresses, and refuses others."""
    blocks = {f"link.client_cidrs {cidr}": IPv4Network(cidr) for cidr in config.link.client_cidrs}
    probe_network = config.network.vpc.cidr if config.network.vpc else config.network.cidr
    blocks[f"network {probe_network}, where the probe stands,"] = IPv4Network(probe_network)
    return [
        f"{name} must lie within the tenant's edge.consumer_cidrs ({', '.join(map(str, allowed))})"
        for name, cidr in blocks.items()
        if not any(cidr.subnet_of(outer) for outer in allowed)
    ]


def _read_pem(path: Path, name: str) -> str:
    """Return the certificate that the file at ``path`` names. Raises ConfigurationError."""
    try:
        pem = (path.parent / name).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(
            f"{path}: probe.certificate_authority: there is no PEM file {name} beside it."
        ) from None
    if "-----BEGIN CERTIFICATE-----" not in pem or len(pem) > _MAX_PEM_CHARACTERS:
        raise ConfigurationError(
            f"{path}: probe.certificate_authority: {name} must hold the root certificate in PEM, "
            f"{_MAX_PEM_CHARACTERS} characters at most."
        )
    return pem
