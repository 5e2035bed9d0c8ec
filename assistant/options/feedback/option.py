"""What the option for feedback brings to the core: what agents did with answers, and what captured model
calls tell, go into a store by day.

``joins``: name of a place in the core = "module:name" below this folder.
"""

from assistant.option import Option

OPTION = Option(
    extras={"learning": "patients"},
    joins={
        "keys of TenantConfig": "section:FeedbackTenant",
        "keys of ModelsSection": "section:CapturedModels",
        "commands of learn": "commands:add_to_learn",
        "commands of models": "commands:add_to_models",
        "runs of a machine": "opened:open_movers",
        "patients' data in captured calls": "patients_opened:replace_patients_data",
        "texts of documents": "store:KEPT",
        "stacks of a tenant": "stack:add_learning",
        "exceptions of stacks": "stack:EXCEPTIONS",
        "alarms of a tenant": "stack:alarms",
        "tenant file of a container": "stack:fill_in",
        "schemas of docs": "events:SCHEMAS",
    },
)
