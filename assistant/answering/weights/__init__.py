"""The weights that the repository ships: the prior of every tenant, fitted by ``make fit``."""
