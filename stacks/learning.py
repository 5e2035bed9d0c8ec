"""What a job of learning or corpus may do: read these stores, write its own folder, by those keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from assistant.settings.model_artifacts import INSTANCES
from stacks.data.buckets import Keeping, TenantBucket
from stacks.outputs import DataOutputs, KeysOutputs, LearningOutputs, ModelsOutputs, NetworkOutputs, Workload
from stacks.policy import Acknowledgement
from stacks.roles import WorkloadRole, interface_statements
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack


class JobRights:
    def __init__(self, scope: Construct, *, tenant: DeployedTenant, keys: KeysOutputs) -> None:
        self._scope = scope
        self._stack = cdk.Stack.of(scope)
        self._tenant = tenant
        self._keys = keys

    def read(self, *buckets: str, prefix: str = "") -> list[iam.PolicyStatement]:
        arns = [_arn(bucket) for bucket in buckets]
        return [
            _allow(["s3:GetObject"], [f"{arn}/{prefix}*" for arn in arns]),
            _allow(["s3:ListBucket"], arns),
        ]

    def write(self, bucket: str, prefix: str) -> list[iam.PolicyStatement]:
        """Into one folder, and what a job must read of it to go on where it was interrupted."""
        arn = _arn(bucket)
        return [
            _allow(
                ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                [f"{arn}/{prefix}*"],
            ),
            _allow(["s3:ListBucket"], [arn]),
        ]

    def use_keys(self, *key_arns: str) -> iam.PolicyStatement:
        """For S3 alone: the bytes are asked of S3, which asks KMS in the job's name."""
        return _allow(["kms:Decrypt", "kms:GenerateDataKey"], key_arns, self._through_s3())

    def encrypt_output(self, key_arn: str) -> iam.PolicyStatement:
        """Asked of a job that names the key of what it puts out: https://docs.aws.amazon.com/sagemaker/latest/
        APIReference/API_OutputDataConfig.html"""
        return _allow(["kms:Encrypt"], [key_arn], self._through_s3())

    def encrypt_volumes(self, key_arn: str) -> iam.PolicyStatement:
        """SageMaker grants the key to the job's volumes: https://docs.aws.amazon.com/sagemaker/latest/dg/
        sagemaker-roles.html"""
        return _allow(
            ["kms:CreateGrant", "kms:DescribeKey"], [key_arn], {"Bool": {"kms:GrantIsForAWSResource": "true"}}
        )

    def of_platform(self, network: NetworkOutputs) -> list[iam.PolicyStatement]:
        """What SageMaker does with the role over its own network: network interfaces, lines, figures, images.

        https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html, "CreateTrainingJob API".
        """
        groups = [
            self._stack.format_arn(
                service="logs",
                resource="log-group",
                resource_name=f"{group}*",
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            )
            for group in _JOB_GROUPS
        ]
        repositories = self._stack.format_arn(service="ecr", resource="repository", resource_name="*")
        return [
            *interface_statements(self._scope, network=network, workload=Workload.JOBS),
            _allow(_LINES, groups),
            _allow(
                ["cloudwatch:PutMetricData"],
                ["*"],
                {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
            ),
            _allow(["ecr:GetAuthorizationToken"], ["*"]),
            _allow(
                ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                [repositories],
            ),
        ]

    def _through_s3(self) -> dict[str, dict[str, str]]:
        return {"StringEquals": {"kms:ViaService": f"s3.{self._tenant.place.region}.amazonaws.com"}}


_JOB_GROUPS = ("/aws/sagemaker/ProcessingJobs", "/aws/sagemaker/TrainingJobs")
"""Of all jobs of an account, as SageMaker names them: not its endpoints', which are a tenant's."""
_LINES = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")


def _arn(bucket: str) -> str:
    return f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}"


def _allow(
    actions: Sequence[str], resources: Sequence[str], conditions: dict[str, dict[str, str]] | None = None
) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=conditions)


# The shell of a training job: a runbook of Systems Manager in which all that must hold of one stands fixed.


TRAINED_ON = tuple(instance for instance in INSTANCES if instance.accelerator != "inf2")
"""Inferentia only infers."""
LONGEST_S = 24 * 3600
"""Of one job: a bound on what one that went wrong can cost."""
VOLUME_GIB = 200
"""Within the local disk of the smallest instance that has one (250 GB): more would be refused there."""
_FOLDER = r"^([A-Za-z0-9_=-]+(\.[A-Za-z0-9_=-]+)*/)+$"
"""Of a bucket: ends in a slash, so that no other folder is meant that begins alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlaces:
    """``s3://`` addresses that end in a slash, and the role that a job is given."""

    sets: str
    checkpoints: str
    models: str
    role_arn: str


class TrainingShell(Construct):
    """``name`` is the runbook's, generated."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        places: TrainingPlaces,
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        self._keys = keys
        self._network = network
        self._places = places
        document = ssm.CfnDocument(
            self,
            "Runbook",
            document_type="Automation",
            document_format="JSON",
            # A changed runbook is a new version, and the default; executions that run keep theirs.
            update_method="NewVersion",
            content={
                "schemaVersion": "0.3",
                "description": f"Starts a training job of {tenant.name}, as its learning stack bounds it.",
                "parameters": self._parameters(),
                "mainSteps": self._steps(),
                "outputs": [f"{step}.JobArn" for step in _STEPS],
            },
        )
        self.name = document.ref

    def _parameters(self) -> Mapping[str, Any]:
        place = self._tenant.place
        registry = rf"{place.account}\.dkr\.ecr\.{place.region}\.amazonaws\.com(\.cn)?"
        return {
            "JobName": {
                **_text("Its name, new each time", r"^[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*$"),
                "maxChars": 63,
            },
            "Image": _text(
                "In this account's registry, by its digest",
                rf"^{registry}/[a-z0-9]+([._/-][a-z0-9]+)*@sha256:[0-9a-f]{{64}}$",
            ),
            "InstanceType": {
                "type": "String",
                "description": "One instance",
                "allowedValues": [instance.name for instance in TRAINED_ON],
            },
            "TrainingSet": _text("Folder below sets/ of the training bucket, ending in /", _FOLDER),
            "BaseModel": _text("Folder of the models bucket, ending in /", _FOLDER),
            "HyperParameters": {"type": "StringMap", "description": "Texts by name", "default": {}},
        }

    def _steps(self) -> list[Mapping[str, Any]]:
        families = sorted({_family(instance.name) for instance in TRAINED_ON if instance.has_local_disk})
        on_volume, on_local_disk = _STEPS
        return [
            {
                "name": "ChooseDisk",
                "action": "aws:branch",
                "inputs": {
                    "Choices": [
                        {"Variable": "{{ InstanceType }}", "StartsWith": family, "NextStep": on_local_disk}
                        for family in families
                    ],
                    "Default": on_volume,
                },
            },
            self._start(on_volume, {"VolumeKmsKeyId": self._keys.models_key_arn}),
            # SageMaker takes no key for local disks: their hardware encrypts them, by a key of each start.
            self._start(on_local_disk, {}),
        ]

    def _start(self, name: str, disk: Mapping[str, str]) -> Mapping[str, Any]:
        return {
            "name": name,
            "action": "aws:executeAwsApi",
            "inputs": {
                "Service": "sagemaker",
                "Api": "CreateTrainingJob",
                "TrainingJobName": "{{ JobName }}",
                "RoleArn": self._places.role_arn,
                "AlgorithmSpecification": {"TrainingImage": "{{ Image }}", "TrainingInputMode": "File"},
                "HyperParameters": "{{ HyperParameters }}",
                "InputDataConfig": [
                    _channel("training", f"{self._places.sets}{{{{ TrainingSet }}}}"),
                    _channel("model", f"{self._places.models}{{{{ BaseModel }}}}"),
                ],
                "OutputDataConfig": {
                    "S3OutputPath": self._places.checkpoints,
                    "KmsKeyId": self._keys.data_key_arn,
                    "CompressionType": "NONE",  # as endpoints take a model: files below a prefix
                },
                "CheckpointConfig": {"S3Uri": f"{self._places.checkpoints}{{{{ JobName }}}}/states/"},
                "ResourceConfig": {
                    "InstanceType": "{{ InstanceType }}",
                    "InstanceCount": 1,  # the jobs' security group lets no two of them talk
                    "VolumeSizeInGB": VOLUME_GIB,
                    **disk,
                },
                "StoppingCondition": {"MaxRuntimeInSeconds": LONGEST_S},
                "VpcConfig": {
                    "Subnets": list(self._network.subnet_ids),
                    "SecurityGroupIds": [self._network.security_group_ids[Workload.JOBS]],
                },
                "EnableNetworkIsolation": True,
                "EnableInterContainerTrafficEncryption": True,
                "ProfilerConfig": {"DisableProfiler": True},
                "Tags": [
                    {"Key": key, "Value": value}
                    for key, value in {**self._tenant.tags(), "data-class": "phi"}.items()
                ],
            },
            "outputs": [{"Name": "JobArn", "Selector": "$.TrainingJobArn", "Type": "String"}],
            "isEnd": True,
        }


_STEPS = ("TrainOnVolume", "TrainOnLocalDisk")


def _text(description: str, pattern: str) -> Mapping[str, str]:
    return {"type": "String", "description": description, "allowedPattern": pattern}


def _channel(name: str, uri: str) -> Mapping[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _family(name: str) -> str:
    """Return ``ml.g5.`` of ``ml.g5.xlarge``: what only its sizes begin with."""
    return f"{name.rpartition('.')[0]}."


# The learning stack: where training sets and checkpoints lie, who a job is, and the shell of a training job.


_KEPT_DAYS = {"dev": 7, "standard": 180, "hipaa": 365}
"""Of a training set or checkpoint: what was withdrawn from knowledge and capture must leave these too."""
_REPLACED_DAYS = 7
SETS = "sets/"
CHECKPOINTS = "checkpoints/"
"""Folders of the bucket."""


class LearningStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        data: DataOutputs,
        models: ModelsOutputs,
    ) -> None:
        super().__init__(
            scope, construct_id, tenant=tenant, data_class="phi", description="learning", stateful=True
        )
        del models
        self._network = network
        bucket = TenantBucket(
            self,
            "TrainingBucket",
            tenant=tenant,
            keeping=Keeping(days=_KEPT_DAYS[tenant.place.profile], replaced_days=_REPLACED_DAYS),
            key_arn=keys.data_key_arn,
            log_bucket=s3.Bucket.from_bucket_name(self, "LogsBucket", data.logs_bucket),
        )
        self._rights = JobRights(self, tenant=tenant, keys=keys)
        self._preparing_role(bucket, data=data, keys=keys)
        role = self._training_role(bucket, data=data, keys=keys)
        shell = TrainingShell(
            self,
            "TrainingShell",
            tenant=tenant,
            keys=keys,
            network=network,
            places=TrainingPlaces(
                sets=f"s3://{bucket.bucket_name}/{SETS}",
                checkpoints=f"s3://{bucket.bucket_name}/{CHECKPOINTS}",
                models=f"s3://{data.models_bucket}/",
                role_arn=role.role_arn,
            ),
        )
        self.outputs = LearningOutputs(training_bucket=bucket.bucket_name)
        cdk.CfnOutput(
            self, "TrainingShellName", value=shell.name, description="Runbook that starts a training job"
        )

    def _preparing_role(self, bucket: TenantBucket, *, data: DataOutputs, keys: KeysOutputs) -> None:
        """Of a SageMaker processing job: verdicts, drafts and clean captured calls into training sets."""
        role = self._job_role("PreparingRole", "Makes training sets of feedback and clean captured calls")
        self._attach(
            "Preparing",
            role,
            [
                *self._rights.read(data.feedback_bucket, data.capture_bucket),
                *self._rights.write(bucket.bucket_name, SETS),
                self._rights.use_keys(keys.data_key_arn, keys.capture_key_arn),
                *self._rights.of_platform(self._network),
            ],
        )

    def _training_role(self, bucket: TenantBucket, *, data: DataOutputs, keys: KeysOutputs) -> WorkloadRole:
        """Of a SageMaker training job: it sees no raw store, only sets and the base model."""
        role = self._job_role("TrainingRole", "Trains on training sets, writes checkpoints")
        self._attach(
            "Training",
            role,
            [
                *self._rights.read(data.models_bucket),
                *self._rights.read(bucket.bucket_name, prefix=SETS),
                *self._rights.write(bucket.bucket_name, CHECKPOINTS),
                self._rights.use_keys(keys.data_key_arn, keys.models_key_arn),
                self._rights.encrypt_output(keys.data_key_arn),
                self._rights.encrypt_volumes(keys.models_key_arn),
                *self._rights.of_platform(self._network),
            ],
        )
        return role

    def _job_role(self, construct_id: str, description: str) -> WorkloadRole:
        return WorkloadRole(self, construct_id, assumed_by="sagemaker.amazonaws.com", description=description)

    def _attach(self, construct_id: str, role: iam.Role, statements: list[iam.PolicyStatement]) -> None:
        iam.CfnManagedPolicy(
            self,
            construct_id,
            roles=[role.role_name],
            policy_document=iam.PolicyDocument(statements=statements),
        )


# Findings that stay in the learning stack, each with its reason.


_FOLDERS = (
    "What is read is whole stores, feedback and clean capture to prepare, models to train; what is written "
    "is one folder, whose objects the job names."
)
_PLATFORM = (
    "EC2's Describe actions, metrics and the registry's sign-in know no resources (Service Authorization "
    "Reference); metrics are bound to SageMaker's own namespace."
)


def _object_of(output: str) -> str:
    """Return the finding on a bucket of the data stack, by the output that a weak reference reads."""
    return (
        'AwsSolutions::AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::{"Fn::GetStackOutput":'
        f'{{"StackName":"{{stage}}-Data","Region":"{{region}}","OutputName":"{output}"}}}}/*]'
    )


def _folder(path: str) -> str:
    return f"AwsSolutions::AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::{path}*]"


_ANY = "AwsSolutions::AwsSolutions-IAM5[Resource::*]"
_JOB_LOG_FINDINGS = tuple(
    "AwsSolutions::AwsSolutions-IAM5"
    f"[Resource::arn:aws:logs:{{region}}:{{account}}:log-group:/aws/sagemaker/{kind}Jobs*]"
    for kind in ("Processing", "Training")
)
_INTERFACES = "AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:ec2:{region}:{account}:network-interface/*]"
_IMAGES = "AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:ecr:{region}:{account}:repository/*]"

EXCEPTIONS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Learning/Preparing",
        findings=(
            _object_of("PublishOutputRefCaptureBucket9F69268F"),
            _object_of("PublishOutputRefFeedbackBucketFBCD54F6"),
            _folder("<TrainingBucket>/sets/"),
        ),
        reason=_FOLDERS,
    ),
    Acknowledgement(
        construct="Learning/Training",
        findings=(
            _object_of("PublishOutputRefModelsBucket7DFDDE96"),
            _folder("<TrainingBucket>/sets/"),
            _folder("<TrainingBucket>/checkpoints/"),
        ),
        reason=_FOLDERS,
    ),
    *(
        Acknowledgement(construct=f"Learning/{job}", findings=(_ANY,), reason=_PLATFORM)
        for job in ("Preparing", "Training")
    ),
    *(
        Acknowledgement(
            construct=f"Learning/{job}",
            findings=(*_JOB_LOG_FINDINGS, _IMAGES, _INTERFACES),
            reason="The log groups that SageMaker has for all jobs of an account; images of this account, of "
            "which one is said when a job is started; interfaces, which have no id before SageMaker makes "
            "them: their subnets and security group bound which.",
        )
        for job in ("Preparing", "Training")
    ),
    Acknowledgement(
        construct="Learning/TrainingBucket",
        findings=("HIPAA.Security::HIPAA.Security-S3BucketReplicationEnabled",),
        reason="Training sets and checkpoints are made anew of feedback and capture, and go after their "
        "time; a copy in a second region is a second place to withdraw from.",
    ),
)
