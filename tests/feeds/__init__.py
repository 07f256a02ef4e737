"""A small application as people wrote them in 2009 for Celery 0.2, changed only for today's Python and Django."""
