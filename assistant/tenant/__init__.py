"""The files of tenants, of the account and of models: read, checked, named."""
