"""A queue of the demonstration's own: whether its broker answers, and how the queue goes at the end."""

import kombu
from django.apps import apps

OWN_DATABASE = ("django://", "django://default")
SCHEMES = ("amqp", "amqps")
SECONDS_TO_CONNECT = 5.0


class BrokerUnreachable(Exception):
    """The broker's URL is wrong or nobody answers there."""


def check_broker(url: str) -> None:
    """Raise BrokerUnreachable unless `url` is one that we know and somebody lets us in there."""
    if url in OWN_DATABASE:
        return
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise BrokerUnreachable(f"{without_password(url)!r} is none of django://, amqp://..., amqps://...")
    _connect(url)


def _connect(url: str) -> None:
    try:
        with kombu.Connection(url, connect_timeout=SECONDS_TO_CONNECT) as connection:
            connection.connect()
    except Exception as exc:  # every transport has exceptions of its own
        reason = " ".join(str(exc).split()) or type(exc).__name__
        raise BrokerUnreachable(f"cannot reach {without_password(url)}: {reason}") from exc


def without_password(url: str) -> str:
    """Return `url` as it may be shown.

    >>> without_password("amqp://guest:secret@localhost:5672//")
    'amqp://guest@localhost:5672//'
    """
    start, separator, address = url.rpartition("@")
    scheme, slashes, credentials = start.partition("://")
    return f"{scheme}{slashes}{credentials.partition(':')[0]}{separator}{address}"


def remove_queue(url: str, queue: str) -> None:
    """Remove the queue and what an interrupted demonstration left in it; other queues are not touched."""
    apps.get_model("celery", "Message").objects.filter(queue=queue).delete()
    if url not in OWN_DATABASE:
        _delete_from_broker(url, queue)


def _delete_from_broker(url: str, queue: str) -> None:
    with kombu.Connection(url, connect_timeout=SECONDS_TO_CONNECT) as connection:
        connection.default_channel.queue_delete(queue)
