"""huey on Redis as its guide sets it up: messages in a list, results in a hash, both under the queue's name.

Plain, without its Django integration, which closes old database connections around each task: that is the quicker
shape. BENCH_NOTIFY=1 sets ``notify_result``: who waits for a result is woken, and does not look again and again.
"""

import os

from huey import RedisHuey

huey = RedisHuey(
    os.environ["BENCH_QUEUE"], url=os.environ["BENCH_BROKER"], notify_result=os.environ.get("BENCH_NOTIFY") == "1"
)
