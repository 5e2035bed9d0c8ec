"""The ingestion stack: everything that happens to documents and captured calls outside an answer, and what is
set up once inside the VPC.

Raw files: inbox bucket → EventBridge → queue → ``receive_documents`` → queue → ``ingest_documents`` → index.
Withdrawals: queue → ``withdraw_documents``. Captured calls: quarantine bucket → EventBridge → queue →
``redact_capture``. Search schema and the key of document links: custom resources of functions in the VPC.
"""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from assistant.settings.deployed_names import LINK_SECRET_RESOURCE
from assistant.settings.functions import LinkSecretSettings
from stacks.functions import FunctionPlace, FunctionProgram, VpcFunction
from stacks.ingestion.functions import CaptureRedaction, DocumentFunctions
from stacks.ingestion.permissions import FunctionPermissions
from stacks.ingestion.search_schema import SERVICE_TIMEOUT_S, SearchSchema, grant_search_access
from stacks.outputs import EarlierOutputs, IngestionOutputs, Workload
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack


class IngestionStack(TenantStack):
    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, earlier: EarlierOutputs
    ) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi")
        self._keys, self._network = earlier.keys, earlier.network
        permissions = FunctionPermissions(scope=self, tenant=tenant, earlier=earlier)
        place = self._place(Workload.SCHEMA)
        schema = SearchSchema(self, "SearchSchema", permissions=permissions, place=place)
        secret = self._link_secret(permissions, place)
        documents = DocumentFunctions(
            self, "Documents", permissions=permissions, place=self._place(Workload.INGESTION)
        )
        access = grant_search_access(
            self,
            "IndexWriters",
            function_arn=schema.function.function_arn,
            role_arns=[role.role_arn for role in documents.index_writers],
            access="write",
        )
        access.node.add_dependency(schema.applied)
        for source in documents.sources:
            source.node.add_dependency(access)
        queues = documents.queues.all()
        functions = (schema.function, secret, *documents.functions)
        if tenant.models.capture == "quarantine":
            redaction = CaptureRedaction(
                self, "Redaction", permissions=permissions, place=self._place(Workload.REDACTOR)
            )
            queues, functions = (*queues, redaction.queue), (*functions, *redaction.functions)
        cdk.CfnOutput(self, "SchemaStamp", value=schema.stamp, description="Search schema that was applied")
        ingestion, withdrawals = documents.queues.documents, documents.queues.withdrawals
        self.outputs = IngestionOutputs(
            ingestion_queue_url=ingestion.url,
            ingestion_queue_arn=ingestion.arn,
            withdrawals_queue_url=withdrawals.url,
            withdrawals_queue_arn=withdrawals.arn,
            queue_names=tuple(queue.queue.queue_name for queue in queues),
            dead_letter_queue_names=tuple(queue.dead_letters.queue_name for queue in queues),
            function_names=tuple(function.function_name for function in functions),
            schema_function_arn=schema.function.function_arn,
            schema_stamp=schema.stamp,
        )

    def _place(self, workload: Workload) -> FunctionPlace:
        return FunctionPlace(
            subnet_ids=self._network.subnet_ids,
            security_group_id=self._network.security_group_ids[workload],
            logs_key_arn=self._keys.logs_key_arn,
            environment_key_arn=self._keys.data_key_arn,
        )

    def _link_secret(self, permissions: FunctionPermissions, place: FunctionPlace) -> VpcFunction:
        """Create the keys of document links and of pseudonyms once. They outlive the stack, so that published
        links stay valid, and an agent keeps the pseudonym."""
        tenant = self.tenant
        environment = {
            "region": tenant.place.region,
            "tenant": tenant.name,
            "parameter": tenant.link_secret_parameter,
            "feedback_parameter": tenant.feedback_secret_parameter,
            "live_reads_parameter": tenant.live_reads_secret_parameter,
            "key_id": self._keys.data_key_arn,
        }
        function = VpcFunction(
            self,
            "LinkSecret",
            tenant=tenant,
            program=FunctionProgram(
                folder="create_link_secret",
                timeout_s=120,
                memory_mib=1024,
                environment=LinkSecretSettings.variables(environment, known_later=cdk.Token.is_unresolved),
            ),
            place=place,
            role=permissions.role(
                "LinkSecretRole",
                description="Makes the keys of document links and pseudonyms, which it cannot read",
                statements=[*permissions.create_link_secret(), permissions.use_data_key("sqs", "lambda")],
            ),
        )
        cdk.CustomResource(
            self,
            "LinkSecretMade",
            service_token=function.function_arn,
            resource_type=LINK_SECRET_RESOURCE,
            service_timeout=cdk.Duration.seconds(SERVICE_TIMEOUT_S),
            # A change of these makes CloudFormation call the function again, which leaves what there is.
            properties={
                "Parameter": tenant.link_secret_parameter,
                "FeedbackParameter": tenant.feedback_secret_parameter,
                "LiveReadsParameter": tenant.live_reads_secret_parameter,
            },
        )
        return function
