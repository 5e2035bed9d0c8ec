"""What the lab adds for learning: the task that makes training sets, training jobs, and the corpus stack.

A schedule starts the task on Fargate, and it ends with its set. It runs the module
``assistant.options.models_lab.make_sets`` out of the image of the learning stack's functions, which has what
finds patients' data. It is no function: 90 days of texts may take longer than the 15 minutes that Lambda
gives. The alarm *Sets not made* watches.

The corpus stack is an EMR Serverless application that makes corpora of the tenant's documents, and their
bucket. A person starts its job (models_lab.md); an application that runs none costs nothing.

"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_emrserverless as emr
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.options.desk.stack import LearningParts
from assistant.options.models_lab.section import LabSection
from assistant.options.models_lab.settings import MakingSetsSettings
from assistant.process.settings import ServiceSettings
from assistant.tenant.deployed_names import APPROVED, CORPORA, ERASURE_PARTITIONS, SETS_RUN, desk_partitions
from assistant.tenant.deployment import RETENTION
from assistant.tenant.manifests import TRAIN_OUTPUT
from stacks.buckets import Keeping, Protection, TenantBucket
from stacks.observability.alarms import MOST_HOURS, TenantAlarms
from stacks.outputs import KeysOutputs, OptionOutputs, Workload
from stacks.policy import (
    DOCUMENTS_BUCKET,
    LABELS_BUCKET,
    NO_REPLICATION,
    TEXTS_BUCKET,
    exceptions,
    nag,
    of_data_stack,
    wildcard,
)
from stacks.processes import (
    CORPUS_IMAGE,
    LEARNING_IMAGE,
    PULL_IMAGE,
    TenantFileAsset,
    image_repository_arn,
    image_uri,
    job_platform_statements,
    shared_job_request,
)
from stacks.roles import (
    USE_KEY,
    Duty,
    WorkloadRole,
    allow,
    allow_partitions,
    attach,
    bucket_arn,
    resource_arn,
    tag_duty,
    via,
    via_s3,
)
from stacks.schedules import ScheduledTask, starting_exceptions
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation, TenantStack, tenant_log_group

CHECKPOINTS = "checkpoints/"
"""Folder of the training bucket, for checkpoints and results of jobs."""
LONGEST_S = 24 * 3600
"""Longest run of one job: a bound on what one that went wrong can cost."""
_S3 = "arn:<AWS::Partition>:s3:::"
"""Begins the ARN of a bucket as findings of the validators have it."""
SETS = "sets/"
"""Folder of the training bucket, for training sets."""
_GET = ("dynamodb:GetItem", "dynamodb:BatchGetItem")
RELEASE = "emr-7.13.0"
"""Spark 3.5: https://docs.aws.amazon.com/emr/latest/EMR-Serverless-UserGuide/release-versions.html"""
_IDLE_MINUTES = 5
"""After a job its workers wait so long for another one, at a cost."""
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
"""Folder of the corpus bucket, for the logs of jobs."""


# --- training sets ------------------------------------------------------------------------------------------
class TrainingSets(Construct):
    """The task that makes training sets, its schedule, log group and two roles. The task's role reads
    feedback and what feedback is about, and writes nothing but sets."""

    def __init__(
        self, scope: TenantStack, construct_id: str, *, foundation: Foundation, training_bucket: str
    ) -> None:
        super().__init__(scope, construct_id)
        tenant = foundation.tenant
        log_group = tenant_log_group(self, "Logs", logs_key_arn=foundation.keys.logs_key_arn)
        self.log_group_name = log_group.log_group_name
        role = self._role("Role", f"Makes training sets of {tenant.name}'s feedback")
        role.may(*_statements(self, foundation, training_bucket))
        tag_duty(role, Duty.PREPARER)
        tenant_file = TenantFileAsset(self, "TenantFile", tenant=tenant)
        tenant_file.grant_read(role)
        starting = self._role("ExecutionRole", "How Fargate starts the task", through=("ecr.dkr", "s3"))
        # The token opens no repository, and the action supports no resource (Service Authorization
        # Reference).
        starting.may(
            allow("ecr:GetAuthorizationToken", "*"),
            allow(PULL_IMAGE, image_repository_arn(self, tenant, LEARNING_IMAGE)),
        )
        # The log driver gives the role this permission by itself.
        starting.declare([allow(("logs:CreateLogStream", "logs:PutLogEvents"), log_group.log_group_arn)])
        definition = ecs.FargateTaskDefinition(
            self,
            "Definition",
            cpu=1024,
            memory_limit_mib=4096,  # every text of the window at once
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.X86_64,  # of the functions' image
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
            task_role=cast("iam.IRole", role),
            execution_role=cast("iam.IRole", starting),
            volumes=[ecs.Volume(name="Tmp")],
        )
        environment = foundation.environment(
            MakingSetsSettings, tenant_file_s3=tenant_file.uri, sets_s3=f"s3://{training_bucket}/{SETS}"
        )
        linux = ecs.LinuxParameters(self, "Linux")
        linux.drop_capabilities(ecs.Capability.ALL)
        container = definition.add_container(
            "Sets",
            image=ecs.ContainerImage.from_registry(image_uri(self, tenant, LEARNING_IMAGE)),
            entry_point=["python", "-P", "-m", "assistant.options.models_lab.make_sets"],
            readonly_root_filesystem=True,
            environment=environment,
            linux_parameters=linux,
            logging=ecs.LogDrivers.aws_logs(log_group=log_group, stream_prefix="sets"),
        )
        tmp = ecs.MountPoint(source_volume="Tmp", container_path="/tmp", read_only=False)  # noqa: S108
        container.add_mount_points(tmp)
        task = ScheduledTask(
            self, "Task", foundation=foundation, definition=definition, workload=Workload.LEARNING
        )
        task.every(cdk.Duration.days(LabSection.of(tenant.config).sets_every_days), "Schedule")

    def _role(self, name: str, description: str, *, through: tuple[str, ...] = ()) -> WorkloadRole:
        return WorkloadRole(
            self, name, assumed_by="ecs-tasks.amazonaws.com", description=description, through=through
        )


def _statements(scope: Construct, foundation: Foundation, training_bucket: str) -> list[iam.PolicyStatement]:
    """Let the task read what a set is made of, each part by its folder or partitions, and put sets.

    Without ``s3:ListBucket`` S3 answers that access is denied where an object is missing: a text or document
    that expired.
    """
    data, keys, tenant = foundation.data, foundation.keys, foundation.tenant
    names = (data.labels_bucket, data.texts_bucket, data.documents_bucket, training_bucket)
    labels, texts, documents, training = (bucket_arn(scope, name) for name in names)
    prefix = ServiceSettings.documents_prefix
    return [
        allow("s3:GetObject", f"{labels}/events/*", f"{texts}/texts/*", f"{documents}/{prefix}*"),
        allow("s3:ListBucket", labels, texts, documents),
        allow_partitions(scope, data.records_table, _GET, ("answer#*",)),
        allow_partitions(scope, data.states_table, _GET, ("documents",)),
        allow_partitions(scope, data.events_table, _GET, ERASURE_PARTITIONS),
        allow_partitions(scope, data.desk_table, (*_GET, "dynamodb:Query"), desk_partitions(APPROVED)),
        allow("s3:PutObject", f"{training}/{SETS}*"),
        allow(USE_KEY, keys.data_key_arn, conditions=via(tenant, "s3", "dynamodb")),
        allow("kms:Decrypt", keys.feedback_key_arn, conditions=via(tenant, "s3")),
    ]


def _add_jobs(stack: TenantStack, foundation: Foundation) -> str:
    """Create what training jobs need: a bucket, a role, and the output with the part of CreateTrainingJob
    that all jobs share, which ``assistant models train`` completes. Return the bucket's name."""
    keys, data = foundation.keys, foundation.data
    kept = RETENTION[stack.tenant.place.profile]
    keeping = Keeping(days=kept.training, replaced_days=kept.jobs_replaced)
    protection = Protection(key_arn=keys.data_key_arn, logs=data.logs_bucket)
    bucket = TenantBucket(stack, "TrainingBucket", keeping=keeping, protection=protection).bucket_name
    # A SageMaker training job: it reads no raw store, only sets and the base model.
    description = "Trains on training sets, writes checkpoints"
    images = resource_arn(stack, "ecr", "repository", "*")
    training = WorkloadRole(
        stack, "TrainingRole", assumed_by="sagemaker.amazonaws.com", description=description
    )
    statements = [
        *_read_bucket(data.models_bucket),
        *_read_bucket(bucket, SETS),
        *_write_folder(bucket, CHECKPOINTS),
        _use_keys(stack, keys.data_key_arn, keys.models_key_arn),
        *_encryption_statements(stack, keys),
        *job_platform_statements(stack, network=foundation.network, repository_arn=images),
    ]
    attach(stack, "Training", training, statements)
    request = shared_job_request(
        stack,
        network=foundation.network,
        role_arn=training.role_arn,
        output=f"s3://{bucket}/{CHECKPOINTS}",
        key_arn=keys.data_key_arn,
        longest_s=LONGEST_S,
    )
    request["ResourceConfig"]["VolumeKmsKeyId"] = keys.models_key_arn
    # ``model_artifacts/jobs.py`` completes the checkpoints' folder by the job's name, ``assistant models
    # train`` the folders of the two channels, in this order.
    request["CheckpointConfig"] = {"S3Uri": f"s3://{bucket}/{CHECKPOINTS}"}
    request["InputDataConfig"] = [
        _channel("training", f"s3://{bucket}/{SETS}"),
        _channel("model", f"s3://{data.models_bucket}/"),
    ]
    cdk.CfnOutput(stack, TRAIN_OUTPUT, value=stack.to_json_string(request))
    return bucket


def _channel(name: str, uri: str) -> dict[str, Any]:
    """Return one input of a training job: an S3 folder, copied below ``/opt/ml/input/data/<name>``."""
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _read_bucket(bucket: str, prefix: str = "") -> list[iam.PolicyStatement]:
    """Let a job read the objects of a bucket below ``prefix``, and list the bucket."""
    arn = _bucket_arn(bucket)
    return [allow("s3:GetObject", f"{arn}/{prefix}*"), allow("s3:ListBucket", arn)]


def _write_folder(bucket: str, prefix: str) -> list[iam.PolicyStatement]:
    """Let a job write one folder, and read there what it needs to resume after an interruption."""
    arn = _bucket_arn(bucket)
    actions = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
    return [allow(actions, f"{arn}/{prefix}*"), allow("s3:ListBucket", arn)]


def _use_keys(scope: Construct, *key_arns: str) -> iam.PolicyStatement:
    """Let a job use keys through S3 only."""
    return allow(USE_KEY, *key_arns, conditions=via_s3(scope))


def _encryption_statements(scope: Construct, keys: KeysOutputs) -> list[iam.PolicyStatement]:
    """Let a job that names the key of its output encrypt it, and SageMaker grant the key to the job's
    volumes.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_OutputDataConfig.html,
    https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html
    """
    for_resource = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    return [
        allow("kms:Encrypt", keys.data_key_arn, conditions=via_s3(scope)),
        allow("kms:CreateGrant", keys.models_key_arn, conditions=for_resource),
        allow("kms:DescribeKey", keys.models_key_arn),  # which knows no such condition
    ]


def _bucket_arn(bucket: str) -> str:
    return f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}"


# --- corpora ------------------------------------------------------------------------------------------------
class CorpusStack(TenantStack):
    """The application that makes corpora, the role of its jobs, and their bucket. Its outputs
    (``CorpusApplicationId``, ``CorpusJobRoleArn``, ``CorpusBucketName``) are what starts a job."""

    def __init__(self, scope: Construct, *, foundation: Foundation) -> None:
        tenant, keys, data = foundation.tenant, foundation.keys, foundation.data
        super().__init__(scope, "Corpus", tenant=tenant, data_class="phi", stateful=True)
        kept = RETENTION[tenant.place.profile]
        keeping = Keeping(days=kept.corpus, replaced_days=kept.jobs_replaced)
        protection = Protection(key_arn=keys.data_key_arn, logs=data.logs_bucket)
        bucket = TenantBucket(self, "CorpusBucket", keeping=keeping, protection=protection)
        role = WorkloadRole(
            self,
            "JobRole",
            assumed_by="emr-serverless.amazonaws.com",
            description="Reads documents, writes corpora of them",
        )
        statements = [
            *_read_bucket(data.documents_bucket),
            *_write_folder(bucket.bucket_name, CORPORA),
            *_write_folder(bucket.bucket_name, LOGS),
            _use_keys(self, keys.data_key_arn),
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


EXCEPTIONS = (
    *exceptions(
        "Learning/Sets/Role/DefaultPolicy",
        wildcard(
            f"arn:{{partition}}:s3:::{LABELS_BUCKET}/events/*",
            f"arn:{{partition}}:s3:::{TEXTS_BUCKET}/texts/*",
            f"arn:{{partition}}:s3:::{DOCUMENTS_BUCKET}/documents/*",
            "arn:{partition}:s3:::<TrainingBucket>/sets/*",
        ),
        "A training set is made of a window of labels, their texts, and the documents that answers showed, "
        "whose names are hashes; its own name is the hash of what is in it.",
        decision="0080-training-sets-by-a-task",
    ),
    *exceptions(
        "Learning/Sets/ExecutionRole/DefaultPolicy",
        wildcard("*"),
        "ecr:GetAuthorizationToken supports no resources: the token opens what the role's other statement "
        "names, one repository.",
    ),
    *starting_exceptions("Learning/Sets/Task"),
    *exceptions(
        "Learning/Sets",
        nag("ECS2"),
        "Names of stores, made by the settings class that reads them: visible in every review. There is no "
        "secret among them.",
    ),
    *exceptions(
        "Learning/Training",
        wildcard(
            f"{_S3}{of_data_stack('PublishOutputRefModelsBucket7DFDDE96')}/*",
            f"{_S3}<TrainingBucket>/sets/*",
            f"{_S3}<TrainingBucket>/checkpoints/*",
        ),
        "A job reads the models and the sets, and writes one folder, whose objects it names.",
    ),
    *exceptions(
        "Learning/Training",
        wildcard("*"),
        "EC2's Describe actions, metrics and the registry's sign-in support no resources (Service "
        "Authorization Reference); metrics are restricted to SageMaker's own namespace.",
    ),
    *exceptions(
        "Learning/Training",
        wildcard(
            "arn:{partition}:logs:{region}:{account}:log-group:/aws/sagemaker/TrainingJobs*",
            "arn:{partition}:ecr:{region}:{account}:repository/*",
            "arn:{partition}:ec2:{region}:{account}:network-interface/*",
        ),
        "The log groups that SageMaker has for all jobs of an account; images of this account, of which the "
        "caller names one when a job starts; interfaces, which have no id before SageMaker creates them: "
        "their subnets and security group restrict which.",
    ),
    *exceptions(
        "Learning/TrainingBucket",
        NO_REPLICATION,
        "Training sets and checkpoints are made again from feedback and capture, and expire; a copy in a "
        "second region is a second place to withdraw from.",
    ),
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
"""Exceptions of the learning stack, which holds the first of these constructs, and of the corpus stack."""


class LearningOfLab(LearningParts):
    """Training sets, training jobs and corpora."""

    exceptions = EXCEPTIONS

    def add_to_learning(
        self, stack: TenantStack, foundation: Foundation, log_groups: dict[str, str]
    ) -> str | None:
        """Add what a tenant that trains needs: what jobs need, and the task that makes sets, whose log group
        goes into ``log_groups``. Return the bucket of sets and checkpoints, or None for a tenant that does
        not train."""
        learning = LabSection.of(foundation.tenant.config)
        if not learning.training:
            return None
        bucket = _add_jobs(stack, foundation)
        if learning.sets_every_days:
            sets = TrainingSets(stack, "Sets", foundation=foundation, training_bucket=bucket)
            log_groups["training_sets"] = sets.log_group_name
        return bucket

    def add_stack(self, scope: Construct, foundation: Foundation) -> tuple[TenantStack, OptionOutputs] | None:
        """Add the stack to a tenant whose file has ``[models_lab] corpora``; None for another."""
        if not LabSection.of(foundation.tenant.config).corpora:
            return None
        stack = CorpusStack(scope, foundation=foundation)
        return stack, OptionOutputs(job_bucket=stack.bucket_name)

    def alarms(self, tenant_alarms: TenantAlarms) -> Iterator[cloudwatch.Alarm]:
        """Yield the alarm on sets that are not made: it looks back over two missed runs (metric ``SETS_RUN``
        of ``make_sets``)."""
        metrics = tenant_alarms.metrics
        learning = LabSection.of(metrics.tenant.config)
        if learning.training and learning.sets_every_days:
            runs = metrics.or_zero(metrics.service(SETS_RUN, "Maximum", minutes=60), label="Sets made")
            hours = min(48 * learning.sets_every_days + 24, MOST_HOURS)  # after two missed runs
            yield tenant_alarms.add("sets-not-made", runs, 1, periods=hours, below=True)

    def images(self, tenant: DeployedTenant) -> tuple[str, ...]:
        """Return the names of the images that this option's stacks start: the application's, for a tenant
        that makes corpora."""
        return (CORPUS_IMAGE,) if LabSection.of(tenant.config).corpora else ()

    def fill_in(self, tenant: DeployedTenant, data: dict[str, Any]) -> None:
        """Say in a container's tenant file whether sets are made: a receipt of a withdrawal names them."""
        data["records"]["deployed"]["training"] = LabSection.of(tenant.config).training
