"""What `startproject` writes, plus two apps and four environment variables.

CELERY_BROKER_URL   where messages wait (default: a queue in the database below)
SHOP_DATABASE       path of a SQLite file, or postgres://user:password@host:port/name, or mysql://... likewise
SHOP_QUEUE          name of the default queue
SHOP_DEBUG          1 switches DEBUG on
"""

import os
from pathlib import Path

from tests.shop.database_url import database_from

BASE_DIR = Path(__file__).resolve().parent

SECRET_KEY = "a-dummy-that-guards-nothing"
DEBUG = os.environ.get("SHOP_DEBUG") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "celery",
    "tests.shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "tests.shop.urls"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": database_from(os.environ.get("SHOP_DATABASE", str(BASE_DIR / "db.sqlite3")))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
STATIC_URL = "static/"

# Django reads this since 6.1; before, EMAIL_BACKEND is its counterpart.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.console.EmailBackend"}}

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "django://")
CELERY_AMQP_CONSUMER_QUEUE = os.environ.get("SHOP_QUEUE", "celery")
