"""What this option brings to the core."""

from assistant.option import Option

OPTION = Option(
    joins={
        "keys of GenerationSection": "section:BedrockGeneration",
        "contradictions of a deployment": "section:contradictions",
        "writers of a tenant": "opened:open_writer",
        "statements of the task role": "stack:statements",
        "actions on resources of AWS": "stack:actions",
    },
)
