"""Connectors of wikis and databases: adapters of ``assistant.options.sources.connector``."""
