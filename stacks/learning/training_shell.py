"""The runbook that starts a training job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import aws_ssm as ssm
from constructs import Construct

from assistant.settings.model_artifacts import INSTANCES
from stacks.outputs import EarlierOutputs, Workload
from stacks.tenant import DeployedTenant

SETS = "sets/"
CHECKPOINTS = "checkpoints/"
"""Folders of the bucket."""
TRAINED_ON = tuple(instance for instance in INSTANCES if instance.accelerator != "inf2")
"""Inferentia only infers."""
LONGEST_S = 24 * 3600
"""Of one job: a bound on what one that went wrong can cost."""
VOLUME_GIB = 200
"""Within the local disk of the smallest instance that has one (250 GB): more would be refused there."""
_FOLDER = r"^([A-Za-z0-9_=-]+(\.[A-Za-z0-9_=-]+)*/)+$"
"""Of a bucket: ends in a slash, so that no other folder is meant that begins alike."""
_STEPS = ("TrainOnVolume", "TrainOnLocalDisk")


class TrainingShell(Construct):
    """A runbook of Systems Manager that starts a training job; everything that must hold for every job is
    fixed in it.

    The caller gives image, instance, training set, base model and hyperparameters, and acts with his own
    permissions, because the runbook has no ``assumeRole``
    (https://docs.aws.amazon.com/systems-manager/latest/userguide/automation-setup.html). A role of the
    tenant's could not start a job: that passes a role to it, and the boundary denies them all of IAM.
    ``name`` is generated.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        earlier: EarlierOutputs,
        training_bucket: str,
        role_arn: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        self._keys, self._network = earlier.keys, earlier.network
        self._models = f"s3://{earlier.data.models_bucket}/"
        self._sets = f"s3://{training_bucket}/{SETS}"
        self._checkpoints = f"s3://{training_bucket}/{CHECKPOINTS}"
        self._role_arn = role_arn
        document = ssm.CfnDocument(
            self,
            "Runbook",
            document_type="Automation",
            document_format="JSON",
            # A changed runbook is a new version, and the default; running executions keep theirs.
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
                "RoleArn": self._role_arn,
                "AlgorithmSpecification": {"TrainingImage": "{{ Image }}", "TrainingInputMode": "File"},
                "HyperParameters": "{{ HyperParameters }}",
                "InputDataConfig": [
                    _channel("training", f"{self._sets}{{{{ TrainingSet }}}}"),
                    _channel("model", f"{self._models}{{{{ BaseModel }}}}"),
                ],
                "OutputDataConfig": {
                    "S3OutputPath": self._checkpoints,
                    "KmsKeyId": self._keys.data_key_arn,
                    "CompressionType": "NONE",  # as endpoints take a model: files below a prefix
                },
                "CheckpointConfig": {"S3Uri": f"{self._checkpoints}{{{{ JobName }}}}/states/"},
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


def _text(description: str, pattern: str) -> Mapping[str, str]:
    return {"type": "String", "description": description, "allowedPattern": pattern}


def _channel(name: str, uri: str) -> Mapping[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _family(name: str) -> str:
    """Return ``ml.g5.`` of ``ml.g5.xlarge``: the beginning of all its sizes, and of no other name."""
    return f"{name.rpartition('.')[0]}."
