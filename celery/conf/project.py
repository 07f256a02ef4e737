"""The settings of a project that whoever sends tasks, runs them or asks for results reads; see `celery.conf`."""

from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from celery.conf.setting import NUMBER, setting


def _classic_broker_url() -> str:
    """Build an amqp URL from the AMQP_* settings of 0.2, or answer ``"django://"`` without them."""
    host = _value("AMQP_HOST") or _value("AMQP_SERVER")
    if not host:
        return "django://"
    user, password, vhost = (_quoted(name) for name in ("AMQP_USER", "AMQP_PASSWORD", "AMQP_VHOST"))
    return f"amqp://{user}:{password}@{_shown(host)}:{_text('AMQP_PORT')}/{vhost}"


def _quoted(name: str) -> str:
    return quote(_text(name), safe="", errors="surrogatepass")


def _value(name: str) -> Any:
    return next(one for one in CLASSIC if one.name == name).value()


def _text(name: str) -> str:
    """Return a value as text; an empty one counts as not set."""
    return _shown(_value(name) or next(one for one in CLASSIC if one.name == name).default)


def _shown(value: Any) -> str:
    """Return text and numbers as text; nothing for what is of a wrong type, so that the check that tells it can run."""
    try:
        return str(value) if isinstance(value, str | int) else ""
    except ValueError:  # too many digits
        return ""


def _default_queue() -> Any:
    return DEFAULT_QUEUE.value()


BROKER: Final = (
    setting(
        "BROKER_URL",
        "CELERY_BROKER_URL",
        _classic_broker_url,
        str,
        "Where messages wait: django:// (the database, or django://alias), amqp://user:password@host/vhost, "
        "redis://host/0 or, for tests, memory://.",
    ),
    setting(
        "PUBLISH_TIMEOUT",
        "CELERY_PUBLISH_TIMEOUT",
        2.0,
        NUMBER,
        "Seconds without an answer of the broker after which delay() raises BrokerUnreachable.",
        minimum=0.1,
    ),
    setting(
        "MESSAGE_MAX_BYTES",
        "CELERY_MESSAGE_MAX_BYTES",
        16 * 1024 * 1024,
        int,
        "The largest message that delay() sends, in bytes. RabbitMQ 4 refuses more than 16 MiB by default.",
        minimum=1024,
    ),
    setting(
        "TASK_SERIALIZER", "CELERY_TASK_SERIALIZER", "json", str, "How arguments are written: a serializer of kombu."
    ),
    setting(
        "ACCEPT_CONTENT",
        "CELERY_ACCEPT_CONTENT",
        ("json",),
        (list, tuple, set),
        "The serializers that a worker reads. Who can send pickle to a worker that accepts it runs any code there.",
    ),
    setting(
        "ALWAYS_EAGER",
        "CELERY_ALWAYS_EAGER",
        False,  # noqa: FBT003 - a default
        bool,
        "Runs each task at once where it is sent, encoded and stored as a worker would do it. For tests.",
    ),
    setting(
        "SQLITE_TUNING",
        "CELERY_SQLITE_TUNING",
        True,  # noqa: FBT003 - a default
        bool,
        "Sets transaction_mode IMMEDIATE and a timeout of 20 s on SQLite connections, and WAL in celeryd.",
    ),
)

DEFAULT_QUEUE: Final = setting("AMQP_CONSUMER_QUEUE", "CELERY_AMQP_CONSUMER_QUEUE", "celery", str, "The default queue.")

QUEUES: Final = (
    DEFAULT_QUEUE,
    setting(
        "AMQP_CONSUMER_ROUTING_KEY",
        "CELERY_AMQP_CONSUMER_ROUTING_KEY",
        _default_queue,
        str,
        "The key by which the default queue is bound to its exchange; of a topic exchange also a pattern.",
    ),
    setting(
        "AMQP_PUBLISHER_ROUTING_KEY",
        "CELERY_AMQP_PUBLISHER_ROUTING_KEY",
        _default_queue,
        str,
        "The key with which messages for the default queue are published; the key of the queue must match it.",
    ),
    setting("AMQP_EXCHANGE", "CELERY_AMQP_EXCHANGE", "celery", str, "The exchange of the default queue."),
    setting("AMQP_EXCHANGE_TYPE", "CELERY_AMQP_EXCHANGE_TYPE", "direct", str, "The type of that exchange."),
    setting(
        "QUEUE_TYPE",
        "CELERY_QUEUE_TYPE",
        "classic",
        str,
        "The type of queues on RabbitMQ. A queue keeps the type that it was declared with.",
        choices=("classic", "quorum"),
    ),
    setting(
        "QUEUE_MAX_PRIORITY",
        "CELERY_QUEUE_MAX_PRIORITY",
        None,
        int,
        "Declares queues on RabbitMQ with this many priorities (x-max-priority); None: no priorities there.",
        minimum=1,
        maximum=255,
    ),
)

CLASSIC: Final = (
    setting("AMQP_HOST", "AMQP_HOST", None, str, "The host of RabbitMQ, where CELERY_BROKER_URL is not set."),
    setting("AMQP_SERVER", "AMQP_SERVER", None, str, "Another name of AMQP_HOST."),
    setting("AMQP_PORT", "AMQP_PORT", 5672, (int, str), "The port of RabbitMQ at AMQP_HOST."),
    setting("AMQP_USER", "AMQP_USER", "guest", str, "The user of RabbitMQ at AMQP_HOST."),
    setting("AMQP_PASSWORD", "AMQP_PASSWORD", "guest", str, "The password of AMQP_USER."),
    setting("AMQP_VHOST", "AMQP_VHOST", "/", str, "The virtual host of RabbitMQ at AMQP_HOST."),
)

RESULTS: Final = (
    setting(
        "BACKEND",
        "CELERY_BACKEND",
        "database",
        str,
        "Where results live: database, cache, tyrant, or the dotted path of a backend.",
    ),
    setting(
        "TASK_RESULT_EXPIRES",
        "CELERY_TASK_RESULT_EXPIRES",
        timedelta(days=5),
        (int, float, timedelta),
        "Seconds, or a timedelta, after which a result may be deleted.",
        minimum=1,
    ),
    setting(
        "CACHE_ALIAS", "CELERY_CACHE_ALIAS", "default", str, "The entry of CACHES that holds the results of cache."
    ),
    setting(
        "PERIODIC_STATUS_BACKEND",
        "CELERY_PERIODIC_STATUS_BACKEND",
        "database",
        str,
        "Where the state of periodic tasks lives: database, or the dotted path of a backend that can keep it.",
    ),
    setting(
        "VIEWS_PERMISSION",
        "CELERY_VIEWS_PERMISSION",
        None,
        str,
        "The dotted path of a function (request, task_id) -> bool that decides who may see a result in celery.views; "
        "without it anybody may.",
    ),
)

TYRANT: Final = (
    setting("TT_HOST", "TT_HOST", None, str, "The host of the Tokyo Tyrant server that holds the results of tyrant."),
    setting("TT_PORT", "TT_PORT", None, (int, str), "Its port."),
    setting(
        "TT_TIMEOUT",
        "CELERY_TT_TIMEOUT",
        5.0,
        NUMBER,
        "Seconds without an answer of the Tokyo Tyrant server after which its connection is given up.",
        minimum=0.1,
    ),
)

TOPICS: Final = {
    "Broker and sending": BROKER,
    "Queues and RabbitMQ": QUEUES,
    "The address of RabbitMQ, as in 0.2": CLASSIC,
    "Results": RESULTS,
    "Tokyo Tyrant": TYRANT,
}
