"""PyPI's Celery with django-celery-results, tuned to do what our side does: acknowledge late, keep its connections."""

import json
import os

SECRET_KEY = "guards nothing"
INSTALLED_APPS = ["django_celery_results", "work"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": json.loads(os.environ["BENCH_DATABASE"]) | {"CONN_MAX_AGE": None}}

CELERY_BROKER_URL = os.environ["BENCH_BROKER"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": os.environ.get("BENCH_CONFIRM") == "1"}
CELERY_TASK_DEFAULT_QUEUE = os.environ["BENCH_QUEUE"]
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = int(os.environ.get("BENCH_PREFETCH", "64"))
