"""The observability stack: metrics, alarms, dashboard, audit, budget."""
