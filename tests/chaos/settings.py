"""The shop's settings for a run of chaos, with a short lease.

The environment says more:

CHAOS_LEASE     seconds without proof of life after which a worker is lost
CHAOS_HISTORY   the file that everything is noted in, see tests/chaos/history.py
CHAOS_MUTANT    name of a planted fault, see tests/chaos/mutants
CHAOS_PATIENCE  seconds after which a connection of the producers to a database server is given up
"""

import os
from typing import Any

from tests.shop.settings import *  # noqa: F403 - a settings module is extended this way
from tests.shop.settings import DATABASES
from tests.shop.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "tests.chaos"]

#: Only what the producer sends is counted.
CELERYD_BEAT = False

CELERY_QUEUE_TYPE = os.environ.get("CELERY_QUEUE_TYPE", "classic")

CELERYD_LEASE = float(os.environ.get("CHAOS_LEASE", "3"))

if _patience := int(os.environ.get("CHAOS_PATIENCE", "0")):
    _timeouts = {"postgresql": ["connect_timeout"], "mysql": ["connect_timeout", "read_timeout"]}
    _engine = DATABASES["default"]["ENGINE"].rpartition(".")[2]
    _options: dict[str, Any] = {"OPTIONS": dict.fromkeys(_timeouts.get(_engine, ()), _patience)}
    DATABASES = {"default": {**DATABASES["default"], **_options}}
