"""Question → read → search → rank → prompt and write, or choose and quote → check → record."""
