"""The ingestion stack: everything that happens to documents and captured calls outside an answer, and what is
set up once inside the VPC.

Raw files: inbox bucket → EventBridge → queue → ``receive_documents`` → queue → ``ingest_documents`` → index.
Withdrawals: queue → ``withdraw_documents``. Captured calls: quarantine bucket → EventBridge → queue →
``redact_capture``.

Custom resources, each handled by a function in the VPC: the keys of document links and pseudonyms; the search
schema and the access to its index. The schema's function has the domain's one master role. CloudFormation
calls the functions directly, without the CDK's provider framework, which would add functions outside the VPC.
A resource with other properties (``{"Stamp": …}``) makes CloudFormation call its function again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.process.settings import (
    PARSING_PREFIX,
    UPLOADS_PREFIX,
    AuditSettings,
    LinkSecretSettings,
    SchemaSettings,
)
from assistant.tenant.deployed_names import (
    AUDIT_FOLDER,
    AUDIT_OUTPUT,
    AUDITED_PARTITIONS,
    FEEDBACK_SECRET_PURPOSE,
    LINK_SECRET_PURPOSE,
    LINK_SECRET_RESOURCE,
    LIVE_READS_SECRET_PURPOSE,
    PIPELINE,
    SEARCH_ACCESS_RESOURCE,
    SEARCH_SCHEMA_RESOURCE,
    IndexAccess,
    link_secret_context,
)
from stacks.document_functions import CaptureRedaction, DocumentFunctions, FunctionPermissions
from stacks.functions import FunctionPlace, FunctionProgram, VpcFunction, schedule
from stacks.outputs import IngestionOutputs, ModelsOutputs, Workload
from stacks.policy import (
    ANY_RESOURCE,
    CAPTURE_BUCKET,
    DOCUMENTS_BUCKET,
    INBOX_BUCKET,
    LAMBDA_PLATFORM,
    OWN_INLINE_POLICY,
    PYTHON_RUNTIME,
    QUARANTINE_BUCKET,
    TRAIL_BUCKET,
    exceptions,
    hipaa,
    nag,
    of_data_stack,
    wildcard,
)
from stacks.roles import USE_KEY, Duty, allow, allow_partitions, bucket_arn, parameter_arn, tag_duty, via
from stacks.tenant import ROOT, DeployedTenant
from stacks.tenant_stack import Foundation, TenantStack, pascal_case

_CLOSE_AUDIT_RATE = "rate(1 hour)"
"""Cheap: a run in which no day has ended only lists the names of digests."""


class IngestionStack(TenantStack):
    """Order of creation: index (``SearchSchema``), access of roles to it, then the sources of their
    functions."""

    def __init__(self, scope: Construct, *, foundation: Foundation, models: ModelsOutputs) -> None:
        super().__init__(scope, "Ingestion", tenant=foundation.tenant, data_class="phi")
        permissions = FunctionPermissions(scope=self, foundation=foundation)
        place = FunctionPlace.of(foundation, Workload.SCHEMA)
        schema = SearchSchema(self, "SearchSchema", permissions=permissions, place=place)
        keys = self._keys_function(permissions, place)
        documents = DocumentFunctions(self, "Documents", permissions=permissions, models=models)
        access = grant_search_access(
            self,
            "IndexWriters",
            function_arn=schema.function.function_arn,
            role_arns=[role.role_arn for role in documents.index_writers],
            access="write",
        )
        access.node.add_dependency(schema.applied)
        if documents.reindex_role is not None:
            maker_access = grant_search_access(
                self,
                "IndexMaker",
                function_arn=schema.function.function_arn,
                role_arns=[documents.reindex_role.role_arn],
                access="reindex",
            )
            maker_access.node.add_dependency(schema.applied)
        for source in documents.sources:
            source.node.add_dependency(access)
        queues = documents.queues.all()
        functions = (schema.function, keys, *documents.functions, self._close_audit_days(permissions))
        if self.tenant.models.capture == "quarantine":
            redaction = CaptureRedaction(self, "Redaction", permissions=permissions)
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
            parser_function=documents.parser.function_name,
            log_groups={function.module: function.log_group_name for function in functions},
            schema_function_arn=schema.function.function_arn,
            schema_stamp=schema.stamp,
        )

    def _close_audit_days(self, permissions: FunctionPermissions) -> VpcFunction:
        """Create the function that closes days of audit records after their end (puts a digest of each). An
        output has its settings as JSON (``{"records_table": …}``), by which ``assistant`` finds records and
        digests."""
        foundation, data = permissions.foundation, permissions.foundation.data
        bucket = bucket_arn(self, data.trail_bucket)
        folder = {"StringLike": {"s3:prefix": [f"{AUDIT_FOLDER}*"]}}
        reads, objects = (
            ("dynamodb:Query", "dynamodb:BatchGetItem"),
            ("s3:PutObject", "s3:GetObject", "s3:GetObjectVersion"),
        )
        role = permissions.role(
            "CloseAuditRole",
            description="Reads audit records, puts a digest of each day",
            statements=[
                allow_partitions(self, data.records_table, reads, AUDITED_PARTITIONS),
                allow(objects, f"{bucket}/{AUDIT_FOLDER}*"),
                allow("s3:ListBucketVersions", bucket, conditions=folder),
                allow(USE_KEY, foundation.keys.logs_key_arn, conditions=via(foundation.tenant, "s3")),
                permissions.use_data_key("dynamodb", "lambda"),
            ],
        )
        tag_duty(role, Duty.AUDIT_CLOSER)
        environment = foundation.environment(AuditSettings, kept_days=foundation.tenant.log_retention_days)
        program = FunctionProgram(module="close_audit_days", timeout_s=900, environment=environment)
        place = FunctionPlace.of(foundation, Workload.INGESTION)
        function = VpcFunction(self, "CloseAudit", program=program, place=place, role=role)
        schedule(self, "CloseAuditSchedule", function=function, rate=_CLOSE_AUDIT_RATE, comes_again=True)
        prefix = AuditSettings.variable("")  # ASSISTANT_RECORDS_TABLE → records_table
        stores = {name.removeprefix(prefix).lower(): value for name, value in environment.items()}
        cdk.CfnOutput(self, AUDIT_OUTPUT, value=self.to_json_string(stores))
        return function

    def _keys_function(self, permissions: FunctionPermissions, place: FunctionPlace) -> VpcFunction:
        """Return a function that creates the secrets of document links, feedback and live reads once, as
        encrypted SSM parameters. They outlive the stack, so that published links stay valid and agents keep
        their pseudonyms."""
        tenant, foundation = self.tenant, permissions.foundation
        parameters = {
            "parameter": tenant.link_secret_parameter,
            "feedback_parameter": tenant.feedback_secret_parameter,
            "live_reads_parameter": tenant.live_reads_secret_parameter,
        }
        key_id = foundation.keys.data_key_arn
        contexts = [
            link_secret_context(tenant.name, purpose)
            for purpose in (LINK_SECRET_PURPOSE, FEEDBACK_SECRET_PURPOSE, LIVE_READS_SECRET_PURPOSE)
        ]
        context = {
            f"kms:EncryptionContext:{name}": sorted({context[name] for context in contexts})
            for name in contexts[0]
        }
        # A data key that is only returned encrypted: nobody has seen it, and this function cannot decrypt it.
        # The encryption context binds it to tenant and purpose.
        make_key, conditions = "kms:GenerateDataKeyWithoutPlaintext", {"StringEquals": context}
        program = FunctionProgram(
            module="create_link_secret",
            timeout_s=120,
            environment=foundation.environment(LinkSecretSettings, key_id=key_id, **parameters),
        )
        role = permissions.role(
            "LinkSecretRole",
            description="Makes the keys of document links and pseudonyms, which it cannot read",
            statements=[
                allow("ssm:PutParameter", *(parameter_arn(self, name) for name in parameters.values())),
                allow(make_key, key_id, conditions=conditions),
                permissions.use_data_key("sqs", "lambda"),
            ],
        )
        function = VpcFunction(self, "LinkSecret", program=program, place=place, role=role)
        # The resource's properties ({"FeedbackParameter": <name>}): a changed name makes CloudFormation call
        # the function again, which keeps secrets that exist.
        names = {pascal_case(name.replace("_", "-")): value for name, value in parameters.items()}
        _custom_resource(self, "LinkSecretMade", function.function_arn, LINK_SECRET_RESOURCE, names)
        return function


_TIMEOUT_S = 300
"""Timeout of the schema function."""
SERVICE_TIMEOUT_S = 360
"""CloudFormation's timeout for an answer: over that of the function; the default is an hour."""
_SCHEMA_CODE = ROOT / "assistant" / "stores" / "index" / "opensearch_schema.py"


class SearchSchema(Construct):
    """Index, pipeline, alias and audit log, applied whenever ``stamp`` changes. Deleting the resource keeps
    them.

    ``function`` also handles ``grant_search_access``; ``applied`` is the resource to depend on.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, permissions: FunctionPermissions, place: FunctionPlace
    ) -> None:
        super().__init__(scope, construct_id)
        foundation, data = permissions.foundation, permissions.foundation.data
        config = foundation.tenant.config
        self.stamp = schema_stamp(foundation.tenant)
        program = FunctionProgram(
            module="apply_search_schema",
            timeout_s=_TIMEOUT_S,
            environment=foundation.environment(
                SchemaSettings,
                **foundation.index(),
                embedding_model=config.embedding.model,
                dimensions=config.embedding.dimensions,
                shards=config.index.shards,
                replicas=config.index.replicas,
            ),
        )
        role = data.schema_role_arn
        self.function = VpcFunction(self, "Apply", program=program, place=place, role=role)
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
        arn, stamp = self.function.function_arn, {"Stamp": self.stamp}
        self.applied = _custom_resource(self, "Applied", arn, SEARCH_SCHEMA_RESOURCE, stamp)
        self.applied.node.add_dependency(reading)


def grant_search_access(
    scope: Construct, construct_id: str, *, function_arn: str, role_arns: Sequence[str], access: IndexAccess
) -> cdk.CustomResource:
    """Give roles access to the tenant's index: ``read``, ``write`` or ``reindex``. Deleting the resource
    revokes it.

    ``function_arn`` is the schema function's (``IngestionOutputs.schema_function_arn``).
    """
    scope = Construct(scope, construct_id)
    properties = {"Access": access, "RoleArns": list(role_arns)}
    return _custom_resource(scope, "Granted", function_arn, SEARCH_ACCESS_RESOURCE, properties)


def _custom_resource(
    scope: Construct, construct_id: str, function_arn: str, kind: str, properties: Mapping[str, Any]
) -> cdk.CustomResource:
    """Create a resource that a function handles. ``kind``: such as ``Custom::SearchSchema``."""
    return cdk.CustomResource(
        scope,
        construct_id,
        service_token=function_arn,
        resource_type=kind,
        service_timeout=cdk.Duration.seconds(SERVICE_TIMEOUT_S),
        properties=properties,
    )


def schema_stamp(tenant: DeployedTenant) -> str:
    """Return a value that changes with everything that determines the schema: model, index size, our code."""
    digest = hashlib.sha256(tenant.embedding.stamp().encode())
    digest.update(tenant.config.index.model_dump_json().encode())
    digest.update(tenant.config.embedding.model_dump_json().encode())
    digest.update(PIPELINE.encode())  # its name has the version of the schema
    digest.update(_SCHEMA_CODE.read_bytes())
    return digest.hexdigest()[:16]


_DOMAIN = of_data_stack("PublishOutputFnGetAttSearchArn29A45148")
"""Output of the data stack with the domain's ARN. CDK derives its name from the pinned logical id
``Search``."""
_FUNCTIONS = (
    "LinkSecret",
    "CloseAudit",
    "Documents/Parse",
    "Documents/Receive",
    "Documents/Ingest",
    "Documents/Withdraw",
    "Documents/Purge",
    "Documents/Reindex",
    "Redaction/Redact",
    "Redaction/Sweep",
)


def _policies_of(*roles: str) -> list[str]:
    """Return the construct paths of the roles' inline policies."""
    return [f"Ingestion/{role}/DefaultPolicy" for role in roles]


EXCEPTIONS = (
    *exceptions("Ingestion", nag("L1"), PYTHON_RUNTIME),
    *exceptions(
        "Ingestion",
        (hipaa("LambdaConcurrency"), "checkov::CKV_AWS_115"),
        "The event source limits what takes from queues (MaximumConcurrency); a limit of the function would "
        "refuse messages and so use up their attempts. CloudFormation or a schedule calls the others one "
        "by one. Reserved concurrency is missing to the rest of the account.",
    ),
    *exceptions(
        "Ingestion",
        (hipaa("LambdaDLQ"), "checkov::CKV_AWS_116"),
        "A function's own dead-letter queue is for asynchronous events. Failed messages are in the "
        "dead-letter queue of each queue; CloudFormation waits for the answer of a custom resource, whose "
        "event contains a signed address that no queue should keep; a schedule comes again.",
    ),
    *exceptions(
        _policies_of("CloseAuditRole"),
        wildcard(f"arn:{{partition}}:s3:::{TRAIL_BUCKET}/{AUDIT_FOLDER}*"),
        "Digests of audit records, named by their day: one folder of the bucket.",
        decision="0093-chains-of-audit-records",
    ),
    *exceptions(
        _policies_of(
            "CloseAuditRole",
            "LinkSecretRole",
            "ReceiveRole",
            "IngestRole",
            "RemoveRole",
            "RedactRole",
            "ReindexRole",
        ),
        hipaa("IAMNoInlinePolicy"),
        OWN_INLINE_POLICY,
    ),
    *exceptions((f"Ingestion/{function}/Platform" for function in _FUNCTIONS), ANY_RESOURCE, LAMBDA_PLATFORM),
    *exceptions(
        _policies_of("ReceiveRole"),
        (
            *wildcard(f"arn:{{partition}}:s3:::{INBOX_BUCKET}/*"),
            *wildcard(f"arn:{{partition}}:s3:::{INBOX_BUCKET}/{UPLOADS_PREFIX}*/result.json"),
            *wildcard(f"arn:{{partition}}:s3:::{INBOX_BUCKET}/{UPLOADS_PREFIX}*/content"),
        ),
        "Other systems choose the names of raw files; the function reads any. Of uploads, whose names are "
        "random, it writes results and deletes what it has read.",
    ),
    *exceptions(
        _policies_of("ReceiveRole", "IngestRole"),
        wildcard(f"arn:{{partition}}:s3:::{DOCUMENTS_BUCKET}/{PARSING_PREFIX}*"),
        "What the parser reads and answers, for the moment of a call: random names below one prefix.",
        decision="0126-the-parser-has-no-rights",
    ),
    *exceptions(
        _policies_of("ReceiveRole", "IngestRole", "RemoveRole", "ReindexRole"),
        wildcard(f"arn:{{partition}}:s3:::{DOCUMENTS_BUCKET}/documents/*"),
        "The tenant's documents, whose names are hashes of ids: the function handles any of them, and "
        "nothing outside this prefix.",
    ),
    *exceptions(
        _policies_of("IngestRole", "RemoveRole", "ReindexRole"),
        (*wildcard(f"{_DOMAIN}/*-passages-v*"), *wildcard(f"{_DOMAIN}/*-passages/_mapping")),
        "Versions of the index of passages, whose names contain the model's hash, on a domain of this "
        "tenant only. No path of the domain's security or cluster begins like that.",
    ),
    *exceptions(
        _policies_of("RedactRole"),
        wildcard(
            f"arn:{{partition}}:s3:::{QUARANTINE_BUCKET}/*", f"arn:{{partition}}:s3:::{CAPTURE_BUCKET}/*"
        ),
        "SageMaker names captured objects by endpoint and time; the function reads and deletes each one and "
        "writes its clean copy under the same name. Both buckets contain nothing else.",
        decision="0020-captured-texts-are-dropped",
    ),
)
