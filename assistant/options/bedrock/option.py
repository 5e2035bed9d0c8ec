"""What the option for Amazon Bedrock brings to the core: one of its models writes the answers, in place of an
LLM endpoint.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    commands={"bedrock": ("commands", "Ask the model of a tenant that writes by Amazon Bedrock.")},
    joins={
        "keys of GenerationSection": "section:BedrockGeneration",
        "contradictions of a deployment": "section:contradictions",
        "writers of a tenant": "opened:open_writer",
        "statements of the task role": "stack:statements",
        "actions on resources of AWS": "stack:actions",
        "checks of an account": "account:checks",
        "uses of a tenant": "models:uses",
        "texts of documents": "receipt:KEPT",
    },
)
