"""The stage of one tenant: all its stacks, in the order in which they are deployed.

    keys → network → data → edge → models → ingestion → orchestrator → options → observability

Each stack gets the outputs of earlier ones (``stacks.outputs``).
"""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from stacks.data import EXCEPTIONS as DATA_EXCEPTIONS
from stacks.data import DataStack
from stacks.edge import EXCEPTIONS as EDGE_EXCEPTIONS
from stacks.edge import EdgeStack
from stacks.ingestion import EXCEPTIONS as INGESTION_EXCEPTIONS
from stacks.ingestion import IngestionStack
from stacks.keys import KeysStack
from stacks.models import EXCEPTIONS as MODELS_EXCEPTIONS
from stacks.models import ModelsStack
from stacks.network import EXCEPTIONS as NETWORK_EXCEPTIONS
from stacks.network import NetworkStack
from stacks.observability import ObservabilityStack
from stacks.observability.alarms import TenantMetrics
from stacks.options import option_stacks
from stacks.orchestrator import EXCEPTIONS as ORCHESTRATOR_EXCEPTIONS
from stacks.orchestrator import OrchestratorStack
from stacks.outputs import OptionOutputs
from stacks.policy import acknowledge
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation, TenantStack, prepare_stage

EXCEPTIONS = (
    *NETWORK_EXCEPTIONS,
    *EDGE_EXCEPTIONS,
    *DATA_EXCEPTIONS,
    *MODELS_EXCEPTIONS,
    *INGESTION_EXCEPTIONS,
    *ORCHESTRATOR_EXCEPTIONS,
    *(row for option in option_stacks() for row in option.exceptions),
)
"""Findings of validators that stay, with their reasons, for all stacks of a tenant."""


class TenantStage(cdk.Stage):
    """Everything of one tenant, in one account and region. Nothing in it refers to another tenant."""

    def __init__(self, scope: Construct, *, tenant: DeployedTenant) -> None:
        place = tenant.place
        boundary = place.permissions_boundary or f"{place.name_prefix}-boundary"
        super().__init__(
            scope,
            tenant.config.stage_id,
            env=cdk.Environment(account=place.account, region=place.region),
            stage_name=tenant.full_name,
            permissions_boundary=cdk.PermissionsBoundary.from_name(boundary),
        )
        self.tenant = tenant
        prepare_stage(self, tenant, role_path=tenant.role_path)
        self._add_stacks()
        registries = {name: ids.get(place.region, "") for name, ids in tenant.images.registries.items()}
        acknowledge(self, EXCEPTIONS, registries=registries)  # after all constructs exist

    def _add_stacks(self) -> None:
        tenant = self.tenant
        keys = KeysStack(self, tenant=tenant).outputs
        networks = NetworkStack(self, tenant=tenant, logs_key_arn=keys.logs_key_arn)
        network = networks.outputs
        stores = DataStack(self, tenant=tenant, keys=keys, network=network)
        data = stores.outputs
        edge = EdgeStack(self, tenant=tenant, network=network, logs_bucket=data.logs_bucket).outputs
        foundation = Foundation(tenant=tenant, keys=keys, network=network, data=data)
        endpoints = ModelsStack(self, foundation=foundation)
        models = endpoints.outputs
        ingesting = IngestionStack(self, foundation=foundation, models=models)
        ingestion = ingesting.outputs
        serving = OrchestratorStack(
            self,
            foundation=foundation,
            models=models,
            ingestion=ingestion,
            target_group_arn=edge.target_group_arn,
        )
        calling: list[TenantStack] = [stores, endpoints, ingesting, serving]
        options: list[OptionOutputs] = []
        for option in option_stacks():
            if added := option.add_stack(self, foundation):
                # Its schedules begin to run when they are created, and need the cluster.
                added[0].add_stack_dependency(serving)
                calling.append(added[0])
                options.append(added[1])
        metrics = TenantMetrics(
            tenant=tenant,
            data=data,
            edge=edge,
            models=models,
            ingestion=ingestion,
            orchestrator=serving.outputs,
            options=options,
        )
        job_buckets = [option.job_bucket for option in options if option.job_bucket is not None]
        networks.create_endpoints(caller for stack in calling for caller in stack.callers)
        # Last: its dashboard has the cost of an hour of everything above. The endpoints above needed all
        # callers too.
        ObservabilityStack(self, keys=keys, job_buckets=job_buckets, metrics=metrics)
