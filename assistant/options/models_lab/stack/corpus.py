"""The corpus stack: an EMR Serverless application that makes corpora of the tenant's documents, and their
bucket.

``assistant knowledge prepare --engine emr`` starts a job of it; an application that runs none costs nothing.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_emrserverless as emr
from constructs import Construct

from assistant.options.models_lab.section import learning_of
from assistant.options.models_lab.stack.training import read_bucket, use_keys, write_folder
from assistant.tenant.deployed_names import CORPORA
from assistant.tenant.deployment import RETENTION
from stacks.data.buckets import Keeping, TenantBucket
from stacks.outputs import OptionOutputs, Workload
from stacks.policy import DOCUMENTS_BUCKET, NO_REPLICATION, exceptions, wildcard
from stacks.processes import CORPUS_IMAGE, image_uri
from stacks.roles import WorkloadRole, attach
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation, TenantStack

RELEASE = "emr-7.13.0"
"""Spark 3.5: https://docs.aws.amazon.com/emr/latest/EMR-Serverless-UserGuide/release-versions.html"""
_IDLE_MINUTES = 5
_PYTHON, _PATH = "/usr/bin/python3.11", "/opt/assistant:/opt/assistant/packages"
_SPARK = {
    "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": _PYTHON,
    "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": _PYTHON,
    "spark.executorEnv.PYSPARK_PYTHON": _PYTHON,
    "spark.emr-serverless.driverEnv.PYTHONPATH": _PATH,
    "spark.executorEnv.PYTHONPATH": _PATH,
    "spark.executor.memoryOverheadFactor": "0.5",  # each task has two processes of Python beside Java
}
"""Where ``containers/corpus_job`` has Python and our modules. The names of the variables:
https://github.com/aws-samples/emr-serverless-samples, examples/pyspark/custom_python_version"""
LOGS = "logs/"


class CorpusStack(TenantStack):
    def __init__(self, scope: Construct, *, foundation: Foundation) -> None:
        tenant, keys, data = foundation.tenant, foundation.keys, foundation.data
        super().__init__(scope, "Corpus", tenant=tenant, data_class="phi", stateful=True)
        kept = RETENTION[tenant.place.profile]
        keeping = Keeping(days=kept.corpus, replaced_days=kept.jobs_replaced)
        bucket = TenantBucket(
            self, "CorpusBucket", keeping=keeping, key_arn=keys.data_key_arn, logs=data.logs_bucket
        )
        role = WorkloadRole(
            self,
            "JobRole",
            assumed_by="emr-serverless.amazonaws.com",
            description="Reads documents, writes corpora of them",
        )
        statements = [
            *read_bucket(data.documents_bucket),
            *write_folder(bucket.bucket_name, CORPORA),
            *write_folder(bucket.bucket_name, LOGS),
            use_keys(self, keys.data_key_arn),
        ]
        attach(self, "Job", role, statements)
        application = self._application(bucket, foundation)
        outputs = {"ApplicationId": application.attr_application_id, "JobRoleArn": role.role_arn}
        for name, value in {**outputs, "BucketName": bucket.bucket_name}.items():
            cdk.CfnOutput(self, f"Corpus{name}", value=value)
        self.bucket_name = bucket.bucket_name
        """Bucket of the corpora, and of the logs of the jobs that make them."""

    def _application(self, bucket: TenantBucket, foundation: Foundation) -> emr.CfnApplication:
        network, keys = foundation.network, foundation.keys
        kinds = emr.CfnApplication
        return kinds(
            self,
            "Application",
            type="SPARK",
            release_label=RELEASE,
            architecture="ARM64",
            image_configuration=kinds.ImageConfigurationInputProperty(
                image_uri=image_uri(self, foundation.tenant, CORPUS_IMAGE)
            ),
            runtime_configuration=[
                kinds.ConfigurationObjectProperty(classification="spark-defaults", properties=_SPARK)
            ],
            auto_start_configuration=kinds.AutoStartConfigurationProperty(enabled=True),
            auto_stop_configuration=kinds.AutoStopConfigurationProperty(
                enabled=True, idle_timeout_minutes=_IDLE_MINUTES
            ),
            # Limits the cost of a failing job.
            maximum_capacity=kinds.MaximumAllowedResourcesProperty(
                cpu="32 vCPU", memory="128 GB", disk="400 GB"
            ),
            network_configuration=kinds.NetworkConfigurationProperty(
                subnet_ids=list(network.subnet_ids),
                security_group_ids=[network.security_group_ids[Workload.JOBS]],
            ),
            monitoring_configuration=kinds.MonitoringConfigurationProperty(
                # Enabled, it keeps the jobs' logs in a bucket of AWS.
                managed_persistence_monitoring_configuration=kinds.ManagedPersistenceMonitoringConfigurationProperty(
                    enabled=False
                ),
                s3_monitoring_configuration=kinds.S3MonitoringConfigurationProperty(
                    log_uri=f"s3://{bucket.bucket_name}/{LOGS}", encryption_key_arn=keys.data_key_arn
                ),
            ),
        )


def images(tenant: DeployedTenant) -> tuple[str, ...]:
    """Return the image of the application, where the tenant makes corpora."""
    return (CORPUS_IMAGE,) if learning_of(tenant.config).corpora else ()


def add_corpus(scope: Construct, foundation: Foundation) -> tuple[TenantStack, OptionOutputs] | None:
    """Add the stack to a tenant that wants corpora."""
    if not learning_of(foundation.tenant.config).corpora:
        return None
    stack = CorpusStack(scope, foundation=foundation)
    return stack, OptionOutputs(job_bucket=stack.bucket_name)


_S3 = "arn:<AWS::Partition>:s3:::"

EXCEPTIONS = (
    *exceptions(
        "Corpus/Job",
        wildcard(
            f"{_S3}{DOCUMENTS_BUCKET}/*", f"{_S3}<CorpusBucket>/corpora/*", f"{_S3}<CorpusBucket>/logs/*"
        ),
        "A corpus is made of all documents: the job reads the whole store of them, and writes two folders "
        "of one bucket, whose objects it names.",
    ),
    *exceptions(
        "Corpus/CorpusBucket",
        NO_REPLICATION,
        "A corpus is made again from the documents, and expires after 90 days; a copy in a second region is "
        "a second place to withdraw from.",
    ),
)
