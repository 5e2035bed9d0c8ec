"""Starts a training job of a tenant through SageMaker's Python SDK, inside the bounds of its learning stack.

    python model_artifacts/training/start.py --shell NAME --job NAME --image URI@sha256:… --instance TYPE
        --set 2026-11/abc/ --model llm/qwen3-8b/ [--hyperparameter NAME=VALUE …] [--dry-run]

The learning stack's runbook (output ``TrainingShellName``) holds what every job of the tenant must have:
role, subnets, keys, folders, tags, longest run. This program reads it and gives the SDK nothing else, and it
checks what you pass by the runbook's own patterns. You act with your own permissions, as with the runbook
itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import boto3
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.shapes import (
    Channel,
    CheckpointConfig,
    DataSource,
    OutputDataConfig,
    S3DataSource,
    StoppingCondition,
    Tag,
)
from sagemaker.core.training.configs import Compute, Networking
from sagemaker.train.model_trainer import ModelTrainer

PARAMETERS = {
    "JobName": "job",
    "Image": "image",
    "InstanceType": "instance",
    "TrainingSet": "set",
    "BaseModel": "model",
}


# The SDK asks whether the role may do each action on every resource: one that is bound to its own folders and
# keys may not, and is refused. The tests of the learning stack judge the role.
os.environ["SAGEMAKER_VALIDATE_ROLE"] = "false"


class RefusedError(Exception):
    """What was wrong, and what is allowed."""


def read_shell(name: str) -> Mapping[str, Any]:
    """Return the runbook's content."""
    document = boto3.client("ssm").get_document(Name=name, DocumentFormat="JSON")
    return json.loads(document["Content"])


def check(shell: Mapping[str, Any], chosen: Mapping[str, str]) -> None:
    """Raise RefusedError for a value that the runbook would refuse."""
    for name, value in chosen.items():
        rule = shell["parameters"][name]
        allowed = rule.get("allowedValues")
        if allowed is not None and value not in allowed:
            raise RefusedError(f"{name} = {value} is none of {', '.join(allowed)}.")
        pattern = rule.get("allowedPattern")
        if pattern is not None and not re.fullmatch(pattern, value):
            raise RefusedError(f"{name} = {value} does not match {pattern}.")
        if len(value) > rule.get("maxChars", 2048):
            raise RefusedError(f"{name} has {len(value)} characters, more than {rule['maxChars']}.")


def step_of(shell: Mapping[str, Any], instance: str) -> Mapping[str, Any]:
    """Return the inputs of CreateTrainingJob for the instance, as the runbook would choose them."""
    steps = {step["name"]: step for step in shell["mainSteps"]}
    branch = steps["ChooseDisk"]["inputs"]
    name = next(
        (one["NextStep"] for one in branch["Choices"] if instance.startswith(one["StartsWith"])),
        branch["Default"],
    )
    return steps[name]["inputs"]


def filled(value: Any, chosen: Mapping[str, str]) -> Any:
    """Return the inputs with the parameters in their places."""
    if isinstance(value, str):
        return re.sub(r"\{\{ (\w+) \}\}", lambda found: chosen.get(found[1], found[0]), value)
    if isinstance(value, list):
        return [filled(one, chosen) for one in value]
    if isinstance(value, dict):
        return {key: filled(one, chosen) for key, one in value.items()}
    return value


def trainer_of(
    job: Mapping[str, Any], hyperparameters: Mapping[str, str], *, session: Session
) -> ModelTrainer:
    """Return the SDK's trainer for the inputs of a CreateTrainingJob."""
    resources, network = job["ResourceConfig"], job["VpcConfig"]
    output, channels = job["OutputDataConfig"], job["InputDataConfig"]
    return ModelTrainer(
        sagemaker_session=session,
        role=job["RoleArn"],
        base_job_name=job["TrainingJobName"],
        training_image=job["AlgorithmSpecification"]["TrainingImage"],
        training_input_mode=job["AlgorithmSpecification"]["TrainingInputMode"],
        hyperparameters=dict(hyperparameters),
        compute=Compute(
            instance_type=resources["InstanceType"],
            instance_count=resources["InstanceCount"],
            volume_size_in_gb=resources["VolumeSizeInGB"],
            **({"volume_kms_key_id": resources["VolumeKmsKeyId"]} if "VolumeKmsKeyId" in resources else {}),
        ),
        networking=Networking(
            subnets=network["Subnets"],
            security_group_ids=network["SecurityGroupIds"],
            enable_network_isolation=job["EnableNetworkIsolation"],
            enable_inter_container_traffic_encryption=job["EnableInterContainerTrafficEncryption"],
        ),
        input_data_config=[
            Channel(
                channel_name=one["ChannelName"],
                data_source=DataSource(
                    s3_data_source=S3DataSource(
                        s3_data_type=one["DataSource"]["S3DataSource"]["S3DataType"],
                        s3_uri=one["DataSource"]["S3DataSource"]["S3Uri"],
                        s3_data_distribution_type=one["DataSource"]["S3DataSource"]["S3DataDistributionType"],
                    )
                ),
            )
            for one in channels
        ],
        output_data_config=OutputDataConfig(
            s3_output_path=output["S3OutputPath"],
            kms_key_id=output["KmsKeyId"],
            compression_type=output["CompressionType"],
        ),
        checkpoint_config=CheckpointConfig(s3_uri=job["CheckpointConfig"]["S3Uri"]),
        stopping_condition=StoppingCondition(
            max_runtime_in_seconds=job["StoppingCondition"]["MaxRuntimeInSeconds"]
        ),
        tags=[Tag(key=tag["Key"], value=tag["Value"]) for tag in job["Tags"]],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shell", required=True, help="TrainingShellName, an output of the learning stack")
    for name, option in PARAMETERS.items():
        parser.add_argument(f"--{option}", required=True, dest=name)
    parser.add_argument("--hyperparameter", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--dry-run", action="store_true", help="print the job and start nothing")
    given = vars(parser.parse_args())
    chosen = {name: given[name] for name in PARAMETERS}
    try:
        shell = read_shell(given["shell"])
        check(shell, chosen)
        hyperparameters = dict(one.split("=", 1) for one in given["hyperparameter"])
    except RefusedError as error:
        sys.exit(str(error))
    except ValueError:
        sys.exit("Write hyperparameters as NAME=VALUE.")
    job = filled(step_of(shell, chosen["InstanceType"]), chosen)
    if given["dry_run"]:
        sys.stdout.write(json.dumps(job | {"HyperParameters": hyperparameters}, indent=1) + "\n")
        return
    trainer = trainer_of(job, hyperparameters, session=Session())
    trainer.train(wait=False, logs=False)


if __name__ == "__main__":
    main()
