"""procrastinate with its Django integration, on PostgreSQL: jobs, and what became of them, are rows of one table."""

import json
import os

SECRET_KEY = "guards nothing"
INSTALLED_APPS = ["procrastinate.contrib.django", "work"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": json.loads(os.environ["BENCH_DATABASE"])}
