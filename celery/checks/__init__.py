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
celery.E012  ``AMQP_HOST`` or ``AMQP_PORT`` cannot be the address of RabbitMQ
celery.E013  ``CELERY_AMQP_CONSUMER_QUEUE`` cannot be the name of a queue
celery.E014  the exchange of the default queue, its type or a routing key cannot be on RabbitMQ
celery.E015  queues of type quorum have no ``CELERY_QUEUE_MAX_PRIORITY``
celery.E016  ``CELERYD_LOG_FILE`` or ``CELERYD_PID_FILE`` cannot be a file, or they are one
celery.E017  ``CELERYD_DAEMON_LOG_FORMAT`` cannot be used by logging
celery.E018  a soft time limit never comes: the hard one is not later
celery.E019  ``CELERYD_MAX_MEMORY_PER_CHILD`` is less than a child has before its first task
celery.E020  ``CELERYD_UMASK`` is not a umask
celery.E021  a task has an option that cannot be
celery.W001  transactions on SQLite do not begin IMMEDIATE
celery.W002  the queue is a database in memory, which no worker can see
celery.W003  the messages that this project sends are not accepted by its own workers
celery.W004  the cache that holds results drops some of them whenever it has few entries
celery.W005  transactions on MariaDB or MySQL are not READ COMMITTED
celery.W010  a setting of 0.2 has no meaning any more
celery.W011  what is published for the default queue never reaches it: the two routing keys differ
celery.W012  anybody may see results: ``celery.urls`` without ``CELERY_VIEWS_PERMISSION`` (only with ``--deploy``)
celery.W013  tasks run where they are sent: ``CELERY_ALWAYS_EAGER`` is on (only with ``--deploy``)
celery.W014  settings ``AMQP_...`` of 0.2 mean nothing here: something else says where messages wait
celery.W015  an exchange of this type puts a copy of each message into every queue
celery.W016  ``CELERY_MESSAGE_MAX_BYTES`` is more than RabbitMQ takes by default (only with ``--deploy``)
celery.W017  settings of RabbitMQ, and a broker that is not RabbitMQ (only with ``--deploy``)
celery.W018  workers read pickle (only with ``--deploy``)
celery.W019  ``SEND_CELERY_TASK_ERROR_EMAILS`` is on, and ``ADMINS`` is empty
celery.W020  ``CELERYD_LEASE`` is shorter than what may hold up a proof of life
celery.W021  ``DATABASE_ROUTERS`` forbid to create a table where it is looked for
celery.W022  a task has a priority, and queues on RabbitMQ have none
celery.W023  a soft time limit of a task never comes, because of a limit of the settings
celery.W024  ``CELERYD_UMASK`` is a decimal number whose digits read like a usual umask
celery.I001  SQLite connections are tuned (only with ``--deploy``)
celery.I002  messages and results are in different databases (only with ``--deploy``)
celery.I003  messages are not in the default database (only with ``--deploy``)
===========  ============================================================================================

An id never changes its meaning. Some wait for ``manage.py check --deploy`` because Django shows messages of every
level, INFO too, before each ``migrate`` and ``runserver``: a project that is in order should be told so in silence.
docs/checks.rst is made from this table; why an id is there and what it says by example is in docs/checks_text.py.
"""

from celery.checks.databases import check_commits, check_databases, check_sqlite_tuning
from celery.checks.places import check_backend, check_broker, check_eager
from celery.checks.rabbitmq import check_rabbitmq, check_rabbitmq_deployed
from celery.checks.registered import check_tasks
from celery.checks.settings import check_settings, check_trust
from celery.checks.views import check_open_views, check_permission
from celery.checks.worker import check_worker

__all__ = [
    "check_backend",
    "check_broker",
    "check_commits",
    "check_databases",
    "check_eager",
    "check_open_views",
    "check_permission",
    "check_rabbitmq",
    "check_rabbitmq_deployed",
    "check_settings",
    "check_sqlite_tuning",
    "check_tasks",
    "check_trust",
    "check_worker",
]
