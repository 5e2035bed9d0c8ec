"""What this option brings to the core."""

from assistant.option import Option

OPTION = Option(
    joins={
        "commands of learn": "commands:add_to_learn",
        "commands of models": "capture_commands:add_to_models",
        "runs of a machine": "opened:open_loops",
        "texts of documents": "receipt:KEPT",
    },
)
