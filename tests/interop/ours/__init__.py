"""Our project: the same task, sent and run by the `celery` of this repository."""
