"""The learning stack: the mover of feedback, scheduled ranking, training sets, the roles of jobs."""
