"""dramatiq on RabbitMQ as its guide sets it up, and results in Redis where BENCH_RESULTS says where.

Plain, without django_dramatiq, whose middleware closes old database connections around each task: that is the quicker
shape. Publishing does not wait for the server's confirm (``confirm_delivery`` is off by default).
"""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

QUEUE = os.environ["BENCH_QUEUE"]

broker = RabbitmqBroker(url=os.environ["BENCH_BROKER"])
results = RedisBackend(url=os.environ["BENCH_RESULTS"])
broker.add_middleware(Results(backend=results))
dramatiq.set_broker(broker)
