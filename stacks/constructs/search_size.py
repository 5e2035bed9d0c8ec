"""How large the search domain of a tenant is: by profile, unless its file says otherwise.

The rules are OpenSearch Service's ("Configuring a multi-AZ domain", Developer Guide): with standby three
zones, three dedicated masters, data nodes in multiples of three, no t3, gp3.
"""

from __future__ import annotations

from dataclasses import dataclass

from assistant.domain.errors import ConfigurationError
from stacks.tenant import DeployedTenant


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSize:
    zones: int
    data_nodes: int
    data_instance: str
    master_instance: str | None
    """Of three dedicated masters; none with a single node, which is its own."""
    volume_gib: int
    standby: bool


_DATA_INSTANCE = {"dev": "t3.medium.search", "standard": "m7g.large.search", "hipaa": "r7g.large.search"}
_VOLUME_GIB = {"dev": 20, "standard": 100, "hipaa": 200}
_MASTER_INSTANCE = "m7g.medium.search"
"""4 GiB: enough for up to ten nodes ("Choosing instance types for dedicated master nodes")."""


def search_size(tenant: DeployedTenant) -> SearchSize:
    """Return the size. Raises ConfigurationError where the domain could not be made."""
    place, search = tenant.place, tenant.config.search
    standby = place.profile == "hipaa"
    zones = 1 if place.profile == "dev" else len(place.zones)
    size = SearchSize(
        zones=zones,
        data_nodes=search.data_nodes or zones,
        data_instance=search.data_instance or _DATA_INSTANCE[place.profile],
        master_instance=None if place.profile == "dev" else _MASTER_INSTANCE,
        volume_gib=search.volume_gib or _VOLUME_GIB[place.profile],
        standby=standby,
    )
    problem = _problem(size, replicas=tenant.config.index.replicas)
    if problem:
        raise ConfigurationError(f"tenants/{tenant.name}.toml: {problem}")
    return size


def _problem(size: SearchSize, *, replicas: int) -> str | None:
    instance, nodes = size.data_instance, size.data_nodes
    if size.standby and size.zones < 3:
        return f"deployment.zones has {size.zones}; a domain with standby (profile hipaa) takes three."
    if size.standby and instance.startswith("t3."):
        return (
            f'search.data_instance = "{instance}": a domain with standby takes no t3; leave it out, or m7g.'
        )
    if nodes % size.zones:
        return f"search.data_nodes = {nodes} does not divide over {size.zones} zones; take a multiple of it."
    if replicas >= nodes:
        return (
            f"{replicas} copies beside the first need {replicas + 1} data nodes; search.data_nodes = {nodes}."
        )
    return None
