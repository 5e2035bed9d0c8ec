"""JumpStart's bucket: a manifest and specifications in AWS's form.

Written here, with values of our own. The form is that of the specifications in the tests of
github.com/aws/sagemaker-python-sdk (commit a24812666d258d9d19c9a82d0c9385ca0bd3ba01,
``sagemaker-serve/tests/unit/servers/data/jumpstart_specs``), reduced to the fields that are read and a few
that are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MODEL = "example-llm-small-instruct"
REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
FILES: Mapping[str, bytes] = {
    "config.json": json.dumps(
        {
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "hidden_size": 64,
            "max_position_embeddings": 4096,
            "torch_dtype": "bfloat16",
        }
    ).encode(),
    "model.safetensors": b"w" * 2048,
    "tokenizer.json": b"{}",
}


def manifest(*versions: str, model: str = MODEL, deprecated: str = "") -> bytes:
    """Return a manifest with these versions of one model, and of another."""
    entries = [
        {
            "model_id": name,
            "version": version,
            "min_version": "2.189.0",
            "spec_key": f"community_models/{name}/specs_v{version}.json",
            "deprecated": version == deprecated,
            "provider": "example",
        }
        for name in (model, f"{model}-other")
        for version in versions
    ]
    return json.dumps(entries).encode()


def specification(**changed: Any) -> bytes:
    """Return the specification of a model with two configurations; the first needs a draft model."""
    common = {
        "hosting_artifact_key": f"example/{MODEL}/artifacts/inference/v1.0.0/",
        "hosting_artifact_compression_type": "None",
        "hosting_prepacked_artifact_key": f"example/{MODEL}/artifacts/inference-prepack/v1.0.0/",
        "hosting_resource_requirements": {"min_memory_mb": 1024, "num_accelerators": 1},
        "inference_environment_variables": [
            {"name": "HF_MODEL_ID", "default": "/opt/ml/model", "required_for_model_class": True},
            {"name": "WORKERS", "default": 1, "required_for_model_class": True},
            {"name": "LOG_LEVEL", "default": "20", "required_for_model_class": False},
        ],
    }
    variants = {
        "regional_aliases": {"us-east-1": {"gpu": f"{REGISTRY}/djl-inference:0.34.0-lmi16.0.0-cu128"}},
        "variants": {
            "g5": {
                "regional_properties": {"image_uri": "$gpu"},
                "properties": {"environment_variables": {"WORKERS": "3"}},
            },
            "g6e": {"regional_properties": {"image_uri": "$gpu"}},
            "ml.g5.2xlarge": {
                "properties": {
                    "environment_variables": {"WORKERS": "2"},
                    "resource_requirements": {"min_memory_mb": 4096},
                }
            },
        },
    }
    draft = {"speculative_decoding": [{"channel_name": "draft"}]}
    return json.dumps(
        {
            "model_id": MODEL,
            "version": "1.10.0",
            "license": "Apache 2.0",
            "deprecated": False,
            "default_inference_instance_type": "ml.g5.2xlarge",
            "supported_inference_instance_types": ["ml.g5.2xlarge", "ml.g6e.2xlarge", "ml.p5.48xlarge"],
            "inference_enable_network_isolation": True,
            "hosting_instance_type_variants": {},
            **common,
            "inference_config_rankings": {"overall": {"rankings": ["fast", "plain"]}},
            "inference_configs": {
                "fast": {"component_names": ["fast"]},
                "plain": {"component_names": ["plain"]},
            },
            "inference_config_components": {
                "fast": {"hosting_additional_data_sources": draft, "hosting_instance_type_variants": {}},
                "plain": {"hosting_instance_type_variants": variants},
            },
            **changed,
        }
    ).encode()


LOCK = f"""# a comment of ours
source = "tests"
allowed_licences = ["Apache 2.0"]

[[candidate]]
id = "{MODEL}"
task = "llm"
model = "example/Small-Instruct"  # why it is here
family = "Example"
purpose = "Tests."

[[candidate]]
id = "example-not-offered"
task = "embedding"
model = "example/Embedder"
family = "Example"
purpose = "Tests."
"""
