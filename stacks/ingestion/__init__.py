"""The ingestion stack: functions of documents and captured calls, their queues, the search schema."""
