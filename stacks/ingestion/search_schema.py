"""The search schema and who may use the index: custom resources that one function in the VPC answers.

The function holds the domain's one master role. CloudFormation calls it directly, without the CDK's provider
framework, which would add functions outside the VPC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.settings.deployed_names import SEARCH_ACCESS_RESOURCE, SEARCH_SCHEMA_RESOURCE, IndexAccess
from assistant.settings.functions import SchemaSettings
from assistant.settings.model_artifacts import CALLERS_PREFIX
from stacks.functions import FunctionPlace, FunctionProgram, VpcFunction
from stacks.ingestion.permissions import FunctionRights
from stacks.orchestrator.permissions import search_alias
from stacks.outputs import DataOutputs
from stacks.processes import process_environment
from stacks.tenant import ROOT, DeployedTenant

_TIMEOUT_S = 300
SERVICE_TIMEOUT_S = 360
"""So long CloudFormation waits for an answer: an hour by default."""
_APPLIED_BY = ("aws/opensearch_schema.py",)


class SearchSchema(Construct):
    """Index, pipeline, alias and audit log, applied whenever ``stamp`` changes. Deleting it keeps them."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        rights: FunctionRights,
        place: FunctionPlace,
    ) -> None:
        super().__init__(scope, construct_id)
        data = rights.data
        self.stamp = schema_stamp(tenant)
        self.function = VpcFunction(
            self,
            "Apply",
            tenant=tenant,
            program=FunctionProgram(
                folder="apply_search_schema",
                timeout_s=_TIMEOUT_S,
                memory_mib=1024,
                environment=process_environment(SchemaSettings, _environment(tenant, data=data)),
            ),
            place=place,
            role=data.schema_role_arn,
        )
        reading = self._let_read(rights)
        self.applied = cdk.CustomResource(
            self,
            "Applied",
            service_token=self.function.function_arn,
            resource_type=SEARCH_SCHEMA_RESOURCE,
            service_timeout=cdk.Duration.seconds(SERVICE_TIMEOUT_S),
            properties={"Stamp": self.stamp},
        )
        self.applied.node.add_dependency(reading)

    def _let_read(self, rights: FunctionRights) -> iam.ManagedPolicy:
        """The role is the data stack's, for the domain names it; what its function reads is said here."""
        reading = iam.ManagedPolicy(
            self,
            "Reading",
            description="What the schema function reads of the embedding model",
            statements=[*rights.model_facts(), rights.environment_key()],
        )
        attached = reading.node.default_child
        assert isinstance(attached, iam.CfnManagedPolicy)  # noqa: S101 (for the type checker)
        attached.roles = [rights.data.schema_role_name]
        return reading


class SearchAccess(Construct):
    """Lets roles into the tenant's index: ``read`` or ``write``. Deleting it takes the right away.

    ``function_arn`` is that of the schema function (``IngestionOutputs.schema_function_arn``).
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        function_arn: str,
        role_arns: Sequence[str],
        access: IndexAccess,
    ) -> None:
        super().__init__(scope, construct_id)
        self.granted = cdk.CustomResource(
            self,
            "Granted",
            service_token=function_arn,
            resource_type=SEARCH_ACCESS_RESOURCE,
            service_timeout=cdk.Duration.seconds(SERVICE_TIMEOUT_S),
            properties={"Access": access, "RoleArns": list(role_arns)},
        )


def schema_stamp(tenant: DeployedTenant) -> str:
    """Return what changes with anything that the schema is made of: the model, the index's size, our code."""
    digest = hashlib.sha256(tenant.embedding.stamp().encode())
    digest.update(tenant.config.index.model_dump_json().encode())
    digest.update(tenant.config.embedding.model_dump_json().encode())
    for name in _APPLIED_BY:
        digest.update((ROOT / "assistant" / name).read_bytes())
    return digest.hexdigest()[:16]


def _environment(tenant: DeployedTenant, *, data: DataOutputs) -> dict[str, object]:
    config = tenant.config
    return {
        "region": tenant.place.region,
        "search": "opensearch",
        "opensearch_url": f"https://{data.domain_endpoint}",
        "opensearch_index": search_alias(tenant),
        "model_artifacts_s3": f"s3://{data.models_bucket}/{CALLERS_PREFIX}",
        "embedding_model": config.embedding.model,
        "dimensions": config.embedding.dimensions,
        "shards": config.index.shards,
        "replicas": config.index.replicas,
    }
