"""The search domain of a tenant: in the VPC, encrypted at rest and in transit, with audit logs. Its size
follows from the profile, unless the tenant file sets it.

The rules are OpenSearch Service's ("Configuring a multi-AZ domain", Developer Guide): with standby three
zones, three dedicated masters, data nodes in multiples of three, no t3, gp3.
"""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_opensearchservice as opensearch
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from stacks.outputs import KeysOutputs, NetworkOutputs, Workload
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import pin, removal_of, tenant_log_group, tenant_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSize:
    """What decides performance and cost of the domain."""

    zones: int
    data_nodes: int
    data_instance: str
    master_instance: str | None
    """Type of the three dedicated masters; None for a single node, which is its own master."""
    volume_gib: int
    """Disk of each data node."""
    standby: bool
    """Multi-AZ with standby: the nodes of one zone are kept in reserve."""


_DEV_INSTANCE, _INSTANCE = "t3.medium.search", "m7g.medium.search"
"""4 GiB each: also enough for the masters of up to ten nodes ("Choosing instance types for dedicated master
nodes"). An index of the shipped kind is below 1 GB; docs/capacity.md says when more is needed."""
_VOLUME_GIB = 20
"""Of each data node."""


def search_size(tenant: DeployedTenant) -> SearchSize:
    """Return the size. Raises ConfigurationError where OpenSearch Service would refuse the domain."""
    place, search = tenant.place, tenant.config.search
    standby = place.profile == "hipaa"
    zones = 1 if tenant.is_dev else len(place.zones)
    size = SearchSize(
        zones=zones,
        data_nodes=search.data_nodes or zones,
        data_instance=search.data_instance or (_DEV_INSTANCE if tenant.is_dev else _INSTANCE),
        master_instance=None if tenant.is_dev else _INSTANCE,
        volume_gib=search.volume_gib or _VOLUME_GIB,
        standby=standby,
    )
    problem = _problem(size, replicas=tenant.config.index.replicas)
    if problem:
        raise ConfigurationError(f"tenants/{tenant.name}.toml: {problem}")
    return size


def _problem(size: SearchSize, *, replicas: int) -> str | None:
    """Return why OpenSearch Service would refuse the domain or leave copies unassigned; None if it would
    not."""
    instance, nodes = size.data_instance, size.data_nodes
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


_LOGS = {
    "AUDIT_LOGS": "AuditLogs",
    "ES_APPLICATION_LOGS": "ErrorLogs",
    "SEARCH_SLOW_LOGS": "SlowSearchLogs",
    "INDEX_SLOW_LOGS": "SlowIndexLogs",
}
"""Construct id of the log group, by the kind of log."""


class SearchDomain(Construct):
    """The domain, as the resource ``resource``: CDK's ``Domain`` would add two helper functions outside the
    VPC, for the access policy and for a log policy. The log policy of all domains is in the account stage.

    ``error_log_group``: name of its error log.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        keys: KeysOutputs,
        network: NetworkOutputs,
        master_role_arn: str,
    ) -> None:
        super().__init__(scope, construct_id)
        tenant = tenant_of(self)
        size = search_size(tenant)
        self.resource = opensearch.CfnDomain(
            self,
            "Domain",
            engine_version=tenant.config.search.engine_version,
            cluster_config=_cluster(size),
            ebs_options=opensearch.CfnDomain.EBSOptionsProperty(
                ebs_enabled=True, volume_type="gp3", volume_size=size.volume_gib
            ),
            vpc_options=opensearch.CfnDomain.VPCOptionsProperty(
                subnet_ids=list(network.subnet_ids[: size.zones]),
                security_group_ids=[network.security_group_ids[Workload.SEARCH]],
            ),
            log_publishing_options=self._logs(keys),
        )
        self._encrypt(keys)
        self._guard(master_role_arn)
        self._maintain()
        pin(self.resource, construct_id)
        self.resource.apply_removal_policy(removal_of(tenant))

    def _logs(self, keys: KeysOutputs) -> dict[str, opensearch.CfnDomain.LogPublishingOptionProperty]:
        groups = {
            kind: tenant_log_group(self, name, logs_key_arn=keys.logs_key_arn) for kind, name in _LOGS.items()
        }
        self.error_log_group = groups["ES_APPLICATION_LOGS"].log_group_name
        return {
            kind: opensearch.CfnDomain.LogPublishingOptionProperty(
                enabled=True, cloud_watch_logs_log_group_arn=group.log_group_arn
            )
            for kind, group in groups.items()
        }

    def _encrypt(self, keys: KeysOutputs) -> None:
        self.resource.encryption_at_rest_options = opensearch.CfnDomain.EncryptionAtRestOptionsProperty(
            enabled=True, kms_key_id=keys.data_key_arn
        )
        self.resource.node_to_node_encryption_options = (
            opensearch.CfnDomain.NodeToNodeEncryptionOptionsProperty(enabled=True)
        )
        self.resource.domain_endpoint_options = opensearch.CfnDomain.DomainEndpointOptionsProperty(
            enforce_https=True, tls_security_policy="Policy-Min-TLS-1-2-PFS-2023-10"
        )

    def _guard(self, master_role_arn: str) -> None:
        """Restrict access: by the security group, by IAM, and by the domain's own roles, which the master
        maps.

        The access policy admits only the master. It uses a condition instead of the principal: the domain
        refuses a principal that IAM does not show everywhere yet, and the role is seconds old. Other roles of
        the account need a policy of their own and a role mapping. The domain supports neither
        ``aws:PrincipalTag`` nor ``aws:SecureTransport`` ("Identity and Access Management in Amazon OpenSearch
        Service", policy element reference).
        """
        self.resource.advanced_security_options = opensearch.CfnDomain.AdvancedSecurityOptionsInputProperty(
            enabled=True,
            internal_user_database_enabled=False,
            master_user_options=opensearch.CfnDomain.MasterUserOptionsProperty(
                master_user_arn=master_role_arn
            ),
        )
        every_domain = cdk.Stack.of(self).format_arn(
            service="es", resource="domain", resource_name="*"
        )  # any name, as the policy is this domain's alone: it cannot refer to the generated name
        account = iam.AccountPrincipal(cdk.Stack.of(self).account)
        self.resource.access_policies = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": account.arn},
                    "Action": "es:ESHttp*",
                    "Resource": every_domain,
                    "Condition": {"ArnEquals": {"aws:PrincipalArn": master_role_arn}},
                }
            ],
        }

    def _maintain(self) -> None:
        """Install patches automatically, in ten hours from 05:00 UTC, the American night, one zone after the
        other. The tenant file sets the engine's version."""
        self.resource.software_update_options = opensearch.CfnDomain.SoftwareUpdateOptionsProperty(
            auto_software_update_enabled=True
        )
        self.resource.off_peak_window_options = opensearch.CfnDomain.OffPeakWindowOptionsProperty(
            enabled=True,
            off_peak_window=opensearch.CfnDomain.OffPeakWindowProperty(
                window_start_time=opensearch.CfnDomain.WindowStartTimeProperty(hours=5, minutes=0)
            ),
        )
        # Without it CloudFormation replaces the domain by an empty one for a newer engine.
        self.resource.cfn_options.update_policy = cdk.CfnUpdatePolicy(enable_version_upgrade=True)


def _cluster(size: SearchSize) -> opensearch.CfnDomain.ClusterConfigProperty:
    several = size.zones > 1
    masters = size.master_instance is not None
    return opensearch.CfnDomain.ClusterConfigProperty(
        instance_type=size.data_instance,
        instance_count=size.data_nodes,
        dedicated_master_enabled=masters,
        dedicated_master_count=3 if masters else None,
        dedicated_master_type=size.master_instance,
        zone_awareness_enabled=several,
        zone_awareness_config=opensearch.CfnDomain.ZoneAwarenessConfigProperty(
            availability_zone_count=size.zones
        )
        if several
        else None,
        multi_az_with_standby_enabled=size.standby,
    )
