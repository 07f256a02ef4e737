"""The settings of our side: everything at its default, so the queue is the one that Celery takes by default, too."""

import os

from tests.shop.database_url import database_from

SECRET_KEY = "a-dummy-that-guards-nothing"
INSTALLED_APPS = ["celery", "tests.interop.ours"]
DATABASES = {"default": database_from(os.environ["INTEROP_DATABASE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
CELERY_BROKER_URL = os.environ["INTEROP_BROKER"]
