"""Our side: what a project writes to use celery, and the log level of a production worker."""

import json
import os

SECRET_KEY = "guards nothing"
INSTALLED_APPS = ["celery", "work"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": json.loads(os.environ["BENCH_DATABASE"])}

CELERY_BROKER_URL = os.environ["BENCH_BROKER"]
CELERY_AMQP_CONSUMER_QUEUE = os.environ["BENCH_QUEUE"]

#: The deletion of old results that a new worker sends at once would be one task too many. Celery sends none either
#: without its beat. An idle worker is measured with it, as is the default.
CELERYD_BEAT = os.environ.get("BENCH_BEAT") == "1"
