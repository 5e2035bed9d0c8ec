"""What this option brings to the core, and to the options that it needs.

``Option`` explains the fields. Modules are named below this folder: "section:LabTenant" is the class
``LabTenant`` of ``assistant.options.models_lab.section``. A key of ``joins`` is the name of a ``Place``, in
the module that asks what joins there (``git grep`` the key).
"""

from assistant.option import Option

OPTION = Option(
    # Extra of the wheel (pyproject.toml) = the module that must import with its packages alone.
    extras={"corpus": "corpus_here", "lambda": "make_sets"},
    # Training sets are made of the desk's events and approved answers (training_sets.py).
    needs=("desk",),
    joins={
        "keys of TenantConfig": "section:LabTenant",
        "keys of ModelsSection": "section:LabModels",
        "commands of models": "commands:add_to_models",
        "commands of knowledge": "commands:add_to_knowledge",
        "commands of learn": "commands:add_to_learn",
        "models of a deployment": "jumpstart:refuse_unresolved",
        "constructs of the data stack": "stack.models:add_to_data",
        "constructs of the models stack": "stack.models:add_to_models",
        "constructs of the learning stack": "stack.learning:add_to_learning",
        "stacks of a tenant": "stack.learning:add_corpus",
        "exceptions of stacks": "stack:EXCEPTIONS",
        "images of a tenant": "stack.learning:images",
        "log groups of a tenant": "stack.models:log_groups",
        "alarms of learning": "stack.learning:alarms",
        "tenant file of a container": "stack.learning:fill_in",
    },
)
