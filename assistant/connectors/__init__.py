"""Connectors of wikis and databases: adapters of ``assistant.knowledge.connectors``."""
