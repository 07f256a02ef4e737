"""PyPI's Celery with django-celery-results: its defaults, or tuned to do what our side does.

Tuned, it acknowledges late, takes more messages at a time and keeps its connections.
"""

import json
import os

TUNED = os.environ.get("BENCH_TUNED") == "1"

SECRET_KEY = "guards nothing"
INSTALLED_APPS = ["django_celery_results", "work"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": json.loads(os.environ["BENCH_DATABASE"]) | ({"CONN_MAX_AGE": None} if TUNED else {})}

CELERY_BROKER_URL = os.environ["BENCH_BROKER"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = os.environ["BENCH_QUEUE"]
CELERY_RESULT_BACKEND = "django-db"
if os.environ.get("BENCH_CONFIRM") == "1":
    CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
if TUNED:
    CELERY_TASK_ACKS_LATE = True
    CELERY_WORKER_PREFETCH_MULTIPLIER = int(os.environ.get("BENCH_PREFETCH", "64"))
