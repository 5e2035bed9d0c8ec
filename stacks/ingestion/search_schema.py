"""The search schema and the access to its index: custom resources that one function in the VPC handles.

The function has the domain's one master role. CloudFormation calls it directly, without the CDK's provider
framework, which would add functions outside the VPC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.settings.deployed_names import SEARCH_ACCESS_RESOURCE, SEARCH_SCHEMA_RESOURCE, IndexAccess
from assistant.settings.functions import SchemaSettings
from assistant.settings.model_artifacts import CALLERS_PREFIX
from stacks.functions import FunctionPlace, FunctionProgram, VpcFunction
from stacks.ingestion.permissions import FunctionPermissions
from stacks.tenant import ROOT, DeployedTenant

_TIMEOUT_S = 300
SERVICE_TIMEOUT_S = 360
"""CloudFormation's timeout for an answer; the default is an hour."""
_SCHEMA_CODE = ROOT / "assistant" / "aws" / "opensearch_schema.py"


class SearchSchema(Construct):
    """Index, pipeline, alias and audit log, applied whenever ``stamp`` changes. Deleting it keeps them."""

    def __init__(
        self, scope: Construct, construct_id: str, *, permissions: FunctionPermissions, place: FunctionPlace
    ) -> None:
        super().__init__(scope, construct_id)
        tenant, data = permissions.tenant, permissions.earlier.data
        config = tenant.config
        self.stamp = schema_stamp(tenant)
        environment = {
            "region": tenant.place.region,
            "search": "opensearch",
            "opensearch_url": f"https://{data.domain_endpoint}",
            "opensearch_index": tenant.search_alias,
            "model_artifacts_s3": f"s3://{data.models_bucket}/{CALLERS_PREFIX}",
            "embedding_model": config.embedding.model,
            "dimensions": config.embedding.dimensions,
            "shards": config.index.shards,
            "replicas": config.index.replicas,
        }
        self.function = VpcFunction(
            self,
            "Apply",
            tenant=tenant,
            program=FunctionProgram(
                folder="apply_search_schema",
                timeout_s=_TIMEOUT_S,
                memory_mib=1024,
                environment=SchemaSettings.variables(environment, known_later=cdk.Token.is_unresolved),
            ),
            place=place,
            role=data.schema_role_arn,
        )
        # The role belongs to the data stack, because the domain refers to it; its read permissions are added
        # here.
        reading = iam.ManagedPolicy(
            self,
            "Reading",
            description="What the schema function reads of the embedding model",
            statements=[
                *permissions.read_model_files("artifact.json"),
                permissions.use_data_key("sqs", "lambda"),
            ],
        )
        cast("iam.CfnManagedPolicy", reading.node.default_child).roles = [data.schema_role_name]
        self.applied = cdk.CustomResource(
            self,
            "Applied",
            service_token=self.function.function_arn,
            resource_type=SEARCH_SCHEMA_RESOURCE,
            service_timeout=cdk.Duration.seconds(SERVICE_TIMEOUT_S),
            properties={"Stamp": self.stamp},
        )
        self.applied.node.add_dependency(reading)


def grant_search_access(
    scope: Construct, construct_id: str, *, function_arn: str, role_arns: Sequence[str], access: IndexAccess
) -> cdk.CustomResource:
    """Give roles access to the tenant's index: ``read`` or ``write``. Deleting the resource revokes it.

    ``function_arn`` is the schema function's (``IngestionOutputs.schema_function_arn``).
    """
    return cdk.CustomResource(
        Construct(scope, construct_id),
        "Granted",
        service_token=function_arn,
        resource_type=SEARCH_ACCESS_RESOURCE,
        service_timeout=cdk.Duration.seconds(SERVICE_TIMEOUT_S),
        properties={"Access": access, "RoleArns": list(role_arns)},
    )


def schema_stamp(tenant: DeployedTenant) -> str:
    """Return a value that changes with everything that determines the schema: model, index size, our code."""
    digest = hashlib.sha256(tenant.embedding.stamp().encode())
    digest.update(tenant.config.index.model_dump_json().encode())
    digest.update(tenant.config.embedding.model_dump_json().encode())
    digest.update(_SCHEMA_CODE.read_bytes())
    return digest.hexdigest()[:16]
