"""The corpus stack: an EMR Serverless application that makes corpora of the tenant's documents, and their
bucket. The jobs come later: an application that runs none costs nothing."""

from __future__ import annotations

from aws_cdk import aws_emrserverless as emr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.data.buckets import Keeping, TenantBucket
from stacks.learning import JobRights
from stacks.outputs import CorpusOutputs, DataOutputs, KeysOutputs, NetworkOutputs, Workload
from stacks.policy import Acknowledgement
from stacks.roles import WorkloadRole
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack

_RELEASE = "emr-7.13.0"
"""Spark 3.5: https://docs.aws.amazon.com/emr/latest/EMR-Serverless-UserGuide/release-versions.html"""
_IDLE_MINUTES = 5
_KEPT_DAYS = {"dev": 7, "standard": 90, "hipaa": 90}
"""Of a corpus. It is made anew of the documents, so what was withdrawn leaves it within this time."""
_REPLACED_DAYS = 7
CORPORA = "corpora/"
LOGS = "logs/"


class CorpusStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        data: DataOutputs,
    ) -> None:
        super().__init__(
            scope, construct_id, tenant=tenant, data_class="phi", description="corpus", stateful=True
        )
        bucket = TenantBucket(
            self,
            "CorpusBucket",
            tenant=tenant,
            keeping=Keeping(days=_KEPT_DAYS[tenant.place.profile], replaced_days=_REPLACED_DAYS),
            key_arn=keys.data_key_arn,
            log_bucket=s3.Bucket.from_bucket_name(self, "LogsBucket", data.logs_bucket),
        )
        self._job_role(bucket, data=data, keys=keys)
        self._application(bucket, network=network, keys=keys)
        self.outputs = CorpusOutputs(corpus_bucket=bucket.bucket_name)

    def _job_role(self, bucket: TenantBucket, *, data: DataOutputs, keys: KeysOutputs) -> None:
        role = WorkloadRole(
            self,
            "JobRole",
            assumed_by="emr-serverless.amazonaws.com",
            description="Reads documents, writes corpora of them",
        )
        rights = JobRights(self, tenant=self.tenant, keys=keys)
        iam.CfnManagedPolicy(
            self,
            "Job",
            roles=[role.role_name],
            policy_document=iam.PolicyDocument(
                statements=[
                    *rights.read(data.documents_bucket),
                    *rights.write(bucket.bucket_name, CORPORA),
                    *rights.write(bucket.bucket_name, LOGS),
                    rights.use_keys(keys.data_key_arn),
                ]
            ),
        )

    def _application(self, bucket: TenantBucket, *, network: NetworkOutputs, keys: KeysOutputs) -> None:
        kinds = emr.CfnApplication
        kinds(
            self,
            "Application",
            type="SPARK",
            release_label=_RELEASE,
            architecture="ARM64",
            auto_start_configuration=kinds.AutoStartConfigurationProperty(enabled=True),
            auto_stop_configuration=kinds.AutoStopConfigurationProperty(
                enabled=True, idle_timeout_minutes=_IDLE_MINUTES
            ),
            # A bound on what a job that went wrong can cost.
            maximum_capacity=kinds.MaximumAllowedResourcesProperty(
                cpu="32 vCPU", memory="128 GB", disk="400 GB"
            ),
            network_configuration=kinds.NetworkConfigurationProperty(
                subnet_ids=list(network.subnet_ids),
                security_group_ids=[network.security_group_ids[Workload.JOBS]],
            ),
            monitoring_configuration=kinds.MonitoringConfigurationProperty(
                # AWS would keep the jobs' logs in a bucket of its own.
                managed_persistence_monitoring_configuration=kinds.ManagedPersistenceMonitoringConfigurationProperty(
                    enabled=False
                ),
                s3_monitoring_configuration=kinds.S3MonitoringConfigurationProperty(
                    log_uri=f"s3://{bucket.bucket_name}/{LOGS}", encryption_key_arn=keys.data_key_arn
                ),
            ),
        )


# Findings that stay in the corpus stack, each with its reason.


_S3 = "AwsSolutions::AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::"

EXCEPTIONS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Corpus/Job",
        findings=(
            _S3 + '{"Fn::GetStackOutput":{"StackName":"{stage}-Data","Region":"{region}",'
            '"OutputName":"PublishOutputRefDocumentsBucketC67A8896"}}/*]',
            _S3 + "<CorpusBucket>/corpora/*]",
            _S3 + "<CorpusBucket>/logs/*]",
        ),
        reason="A corpus is made of all documents: read is the whole store of them, written are two folders "
        "of one bucket, whose objects the job names.",
    ),
    Acknowledgement(
        construct="Corpus/CorpusBucket",
        findings=("HIPAA.Security::HIPAA.Security-S3BucketReplicationEnabled",),
        reason="A corpus is made anew of the documents, and goes after 90 days; a copy in a second region "
        "is a second place to withdraw from.",
    ),
)
