"""What connectors of sources bring to the core: wikis and databases are read on a schedule, and become
documents.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    extras={"service": "task"},
    joins={
        "commands of knowledge": "commands:add_to_knowledge",
        "keys of SourceEntry": "section:ConnectedSource",
        "contradictions of a deployment": "section:contradictions",
        "runs of a laptop": "opened:syncs_of",
        "constructs of the orchestrator stack": "stack:add_runs",
        "exceptions of stacks": "stack:EXCEPTIONS",
        "tenant file of a container": "stack:fill_in",
        "alarms of a tenant": "stack:alarms",
    },
)
