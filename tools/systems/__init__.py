"""Internal systems of the sample tenants, for demo and tests: real HTTP, made-up data, faults on request.

Development tools: they stand for systems that a company has, and are in no wheel and no deployment.
"""
