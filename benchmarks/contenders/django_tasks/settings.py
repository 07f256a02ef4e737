"""Django's own interface for tasks with the backend that keeps them in the database.

Django has ``django.tasks`` since 6.0. On Django 5.2 the same interface is the package django-tasks, and its database
backend is a package of its own since 0.12: ``pip install "django-tasks-db[compat]"`` is what a new user of Django 5.2
installs. A task and its result are one row.

A worker closes its connection after each task, as Django's CONN_MAX_AGE says by default. BENCH_KEEP=1 makes it keep it.
"""

import json
import os

SECRET_KEY = "guards nothing"
INSTALLED_APPS = ["django_tasks", "django_tasks_db", "work"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MAX_AGE = {"CONN_MAX_AGE": None} if os.environ.get("BENCH_KEEP") == "1" else {}
DATABASES = {"default": json.loads(os.environ["BENCH_DATABASE"]) | MAX_AGE}
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["default"]}}
