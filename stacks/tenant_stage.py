"""The stage of one tenant: all its stacks, in the order in which they are deployed."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from stacks.corpus import EXCEPTIONS as CORPUS_EXCEPTIONS
from stacks.corpus import CorpusStack
from stacks.data.stack import EXCEPTIONS as DATA_EXCEPTIONS
from stacks.data.stack import DataStack
from stacks.edge import EXCEPTIONS as EDGE_EXCEPTIONS
from stacks.edge import EdgeStack
from stacks.ingestion.stack import EXCEPTIONS as INGESTION_EXCEPTIONS
from stacks.ingestion.stack import IngestionStack
from stacks.keys import KeysStack
from stacks.learning.stack import EXCEPTIONS as LEARNING_EXCEPTIONS
from stacks.learning.stack import LearningStack
from stacks.models.stack import EXCEPTIONS as MODELS_EXCEPTIONS
from stacks.models.stack import ModelsStack
from stacks.network.stack import EXCEPTIONS as NETWORK_EXCEPTIONS
from stacks.network.stack import NetworkStack
from stacks.observability.stack import ObservabilityStack
from stacks.orchestrator.stack import EXCEPTIONS as ORCHESTRATOR_EXCEPTIONS
from stacks.orchestrator.stack import OrchestratorStack
from stacks.outputs import EarlierOutputs
from stacks.policy import acknowledge
from stacks.processes import refuse_unlocked
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import prepare_stage

EXCEPTIONS = (
    *NETWORK_EXCEPTIONS,
    *EDGE_EXCEPTIONS,
    *DATA_EXCEPTIONS,
    *MODELS_EXCEPTIONS,
    *INGESTION_EXCEPTIONS,
    *ORCHESTRATOR_EXCEPTIONS,
    *LEARNING_EXCEPTIONS,
    *CORPUS_EXCEPTIONS,
)
"""Validators' findings that stay, with their reasons, of every stack of a tenant."""


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
        refuse_unlocked(self, tenant)
        self._add_stacks()
        acknowledge(self, EXCEPTIONS)

    def _add_stacks(self) -> None:
        tenant, done = self.tenant, EarlierOutputs()
        done.keys = KeysStack(self, "Keys", tenant=tenant).outputs
        network = NetworkStack(self, "Network", tenant=tenant, earlier=done)
        done.network = network.outputs
        done.data = DataStack(self, "Data", tenant=tenant, earlier=done).outputs
        done.edge = EdgeStack(self, "Edge", tenant=tenant, earlier=done).outputs
        done.models = ModelsStack(self, "Models", tenant=tenant, earlier=done).outputs
        done.ingestion = IngestionStack(self, "Ingestion", tenant=tenant, earlier=done).outputs
        done.orchestrator = OrchestratorStack(self, "Orchestrator", tenant=tenant, earlier=done).outputs
        done.learning = LearningStack(self, "Learning", tenant=tenant, earlier=done).outputs
        done.corpus = CorpusStack(self, "Corpus", tenant=tenant, earlier=done).outputs
        ObservabilityStack(self, "Observability", tenant=tenant, earlier=done)
        network.create_endpoints(called_from=self)
