"""The system checks: they read settings, import what these name, and never open a connection.

===========  ============================================================================================
id           what it says
===========  ============================================================================================
celery.E001  a setting that starts with ``CELERY_`` or ``CELERYD_`` is unknown
celery.E002  a setting has a value of the wrong type
celery.E003  a setting has a value that it cannot have
celery.E004  ``CELERY_BROKER_URL`` has an unknown scheme, cannot be read, or names no database of ours
celery.E005  the backend of ``CELERY_BACKEND`` cannot be had
celery.E006  messages or results would be kept in a kind of database that is not supported
celery.E007  SQLite is too old
celery.E008  the entry of CACHES that ``CELERY_CACHE_ALIAS`` names cannot hold results
celery.E009  ``TT_HOST`` or ``TT_PORT`` cannot be the address of a Tokyo Tyrant server
celery.E010  what ``CELERY_VIEWS_PERMISSION`` names cannot be had
celery.E011  the backend of ``CELERY_PERIODIC_STATUS_BACKEND`` cannot be had, or keeps no periodic tasks
celery.W001  transactions on SQLite do not begin IMMEDIATE
celery.W002  the queue is a database in memory, which no worker can see
celery.W003  the messages that this project sends are not accepted by its own workers
celery.W004  the cache that holds results drops some of them whenever it has few entries
celery.W005  transactions on MariaDB or MySQL are not READ COMMITTED
celery.W010  a setting of 0.2 has no meaning any more
celery.W011  what is published for the default queue never reaches it: the two routing keys differ
celery.W012  anybody may see results: ``celery.urls`` without ``CELERY_VIEWS_PERMISSION`` (only with ``--deploy``)
celery.W013  tasks run where they are sent: ``CELERY_ALWAYS_EAGER`` is on (only with ``--deploy``)
celery.I001  SQLite connections are tuned (only with ``manage.py check --deploy``)
===========  ============================================================================================

An id never changes its meaning. I001 waits for ``--deploy`` because Django shows messages of every level, INFO too,
before each ``migrate`` and ``runserver``: a project that is in order should be told so in silence.
"""

from celery.checks.databases import check_databases, check_sqlite_tuning
from celery.checks.places import check_backend, check_broker, check_eager
from celery.checks.settings import check_settings
from celery.checks.views import check_open_views, check_permission

__all__ = [
    "check_backend",
    "check_broker",
    "check_databases",
    "check_eager",
    "check_open_views",
    "check_permission",
    "check_settings",
    "check_sqlite_tuning",
]
