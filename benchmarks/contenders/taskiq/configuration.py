"""taskiq on RabbitMQ, and results in Redis where BENCH_RESULTS says where; without it taskiq stores none.

Queue, exchange and dead letters only get names of the run's own. Everything else is the default of taskiq-aio-pika:
a quorum queue, a prefetch of 10, and each publish waits for the server's confirm. BENCH_CLASSIC=1 is what helps it:
a classic queue, as the other products have, and a prefetch of 100.
"""

import os

from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType
from taskiq_redis import RedisAsyncResultBackend

NAME, RESULTS = os.environ["BENCH_QUEUE"], os.environ["BENCH_RESULTS"]
IS_CLASSIC = os.environ.get("BENCH_CLASSIC") == "1"


def queue(name: str) -> Queue:
    return Queue(name=name, type=QueueType.CLASSIC) if IS_CLASSIC else Queue(name=name)


broker = AioPikaBroker(
    os.environ["BENCH_BROKER"],
    exchange=Exchange(name=NAME),
    task_queues=[queue(NAME)],
    dead_letter_queue=queue(f"{NAME}.dead_letter"),
    **({"qos": 100} if IS_CLASSIC else {}),
)
if RESULTS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(RESULTS))
