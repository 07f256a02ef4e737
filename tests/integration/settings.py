"""The shop, with tasks that only these tests need, and any setting from the environment.

WORKER_SETTINGS     settings that win over the shop's, as a JSON object
"""

import json
import os

from tests.shop.settings import *  # noqa: F403 - the shop's settings are ours
from tests.shop.settings import INSTALLED_APPS as APPS_OF_THE_SHOP

INSTALLED_APPS = [*APPS_OF_THE_SHOP, "tests.integration.oddities"]

#: What is sent by the clock would be counted among what a test sends.
CELERYD_BEAT = False

globals().update(json.loads(os.environ.get("WORKER_SETTINGS", "{}")))
