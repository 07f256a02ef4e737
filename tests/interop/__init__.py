"""Our worker and producers beside those of PyPI's Celery, which lives in an environment of its own.

Both packages are called `celery`, so no process can import the two: they only meet on the wire.
"""
