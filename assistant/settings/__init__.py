"""All configuration: one settings class a process, read from the environment, and the files of tenants.

The name of an environment variable is defined once, by the class that reads it.
"""
