"""RabbitMQ: its address as in 0.2, the queues and their exchange. The server is not asked."""

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage

from celery import conf
from celery.checks.values import is_amqp, shown, sound
from celery.message import LONGEST_NAME, is_name

#: A host name or an IPv4 address, or an IPv6 address in brackets.
HOST: Final = re.compile(r"[^\s/@:?#\[\]]+|\[[0-9A-Fa-f:.]+\]")
LAST_PORT: Final = 65_535
ADDRESS: Final = ("AMQP_HOST", "AMQP_SERVER", "AMQP_PORT", "AMQP_USER", "AMQP_PASSWORD", "AMQP_VHOST")
EXCHANGE_TYPES: Final = ("direct", "topic", "fanout", "headers")
#: On these a message reaches every queue that is bound, whatever its key.
COPYING_TYPES: Final = ("fanout", "headers")
#: The longest name in AMQP, in bytes; names that begin like this are the server's own.
SHORT: Final = 255
RESERVED: Final = "amq."
#: What a server takes that nobody has configured: RabbitMQ 4.
USUAL_LARGEST_MESSAGE: Final = 16 * 1024 * 1024


@checks.register("celery")
def check_rabbitmq(**_: Any) -> list[CheckMessage]:
    """Check the settings that only RabbitMQ reads, and the name of the default queue."""
    found = [*_wrong_address(), *_idle_address(), *_default_queue(), *_exchange(), *_routing_keys()]
    return [*found, *_priorities()] if is_amqp() else found


@checks.register("celery", deploy=True)
def check_rabbitmq_deployed(**_: Any) -> list[CheckMessage]:
    """Tell of settings that the server may not go along with, and of those that no server reads."""
    return [*_large_messages()] if is_amqp() else [*_nobodys_settings()]


# -- the address, as in 0.2


def address_trouble() -> str | None:
    """Return why AMQP_HOST and AMQP_PORT cannot be an address, as a sentence; None if a URL stands in their place."""
    name = "AMQP_HOST" if conf.AMQP_HOST else "AMQP_SERVER"
    host, found = getattr(conf, name), conf.AMQP_PORT or conf.DEFAULT_AMQP_PORT
    if not host or _has_url() or not isinstance(host, str):
        return None
    port = found if isinstance(found, str) else shown(found)
    if not HOST.fullmatch(host):
        return f"{name} = {shown(host)} is not the name of a host."
    if not (port.isascii() and port.isdigit() and 0 < int(port[:9]) <= LAST_PORT):
        return f"AMQP_PORT = {shown(conf.AMQP_PORT)} is not the number of a port, from 1 to {LAST_PORT}."
    return None


def _has_url() -> bool:
    return getattr(django_settings, "CELERY_BROKER_URL", None) is not None


def _wrong_address() -> Iterator[CheckMessage]:
    if trouble := address_trouble():
        hint = (
            "Write AMQP_HOST = 'rabbit.example.org' and AMQP_PORT = 5672, an IPv6 address in brackets; or, in their "
            "place, CELERY_BROKER_URL = 'amqp://user:password@rabbit.example.org:5672/vhost'."
        )
        yield checks.Error(trouble, hint=hint, id="celery.E012")


def _idle_address() -> Iterator[CheckMessage]:
    """Tell of settings of the address that are not used: something else decides where messages wait."""
    given = [name for name in ADDRESS if getattr(django_settings, name, None)]
    if not given or not isinstance(conf.BROKER_URL, str):
        return
    text = hint = ""
    if _has_url():
        if _is_other_place(conf.AMQP_HOST or conf.AMQP_SERVER):
            text = f"{_nothing(given)} beside CELERY_BROKER_URL, which leads to another place."
            hint = f"Remove CELERY_BROKER_URL if RabbitMQ is to be used at that address, else {_listed(given)}."
    elif not (conf.AMQP_HOST or conf.AMQP_SERVER):
        text = f"{_nothing(given)} without AMQP_HOST: messages wait in the database."
        hint = f"Write AMQP_HOST = 'rabbit.example.org', or remove {_listed(given)}."
    elif conf.AMQP_HOST and conf.AMQP_SERVER and conf.AMQP_HOST != conf.AMQP_SERVER:
        text = "AMQP_SERVER means nothing beside AMQP_HOST, which is another host."
        hint = "Remove the one that is wrong: both are names of one setting."
    if text:
        yield checks.Warning(text, hint=hint, id="celery.W014")


def _nothing(names: list[str]) -> str:
    return f"{_listed(names)} {'mean' if len(names) > 1 else 'means'} nothing"


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _is_other_place(host: Any) -> bool:
    try:
        found = urlsplit(conf.BROKER_URL)
        is_same = is_amqp() and isinstance(host, str) and host.strip("[]").lower() == (found.hostname or "localhost")
    except ValueError:  # E004
        return False
    return bool(host) and not is_same


# -- queues


def queue_trouble(name: Any) -> str | None:
    """Return why a queue cannot have this name, as the end of a sentence, or None."""
    if not is_name(name):
        return f"is not a text of 1 to {LONGEST_NAME} characters without NUL."
    if "," in name or name != name.strip():
        return (
            "has a comma in it, or spaces around it, at which `celeryd -Q` divides: no worker takes from such a queue."
        )
    if is_amqp() and (len(name.encode()) > SHORT or name.startswith(RESERVED)):
        return f"takes more than {SHORT} bytes or begins with {RESERVED!r}: RabbitMQ refuses such a queue."
    return None


def _default_queue() -> Iterator[CheckMessage]:
    name = sound("AMQP_CONSUMER_QUEUE")
    if name is not None and (trouble := queue_trouble(name)):
        text = f"CELERY_AMQP_CONSUMER_QUEUE = {shown(name)} cannot be the name of a queue: it {trouble}"
        hint = "Write CELERY_AMQP_CONSUMER_QUEUE = 'celery', or another short name without commas and spaces."
        yield checks.Error(text, hint=hint, id="celery.E013")


def _exchange() -> Iterator[CheckMessage]:
    """Check the type always, and what depends on RabbitMQ where it is used."""
    kind, name = sound("AMQP_EXCHANGE_TYPE"), sound("AMQP_EXCHANGE")
    if kind is not None and kind not in EXCHANGE_TYPES and not kind.startswith("x-"):
        text = f"CELERY_AMQP_EXCHANGE_TYPE = {shown(kind)} is not a type of exchange."
        hint = "Write 'direct', 'topic', 'fanout', 'headers', or the name of a plugin's type: it begins with 'x-'."
        yield checks.Error(text, hint=hint, id="celery.E014")
    if not is_amqp():
        return
    if name is not None and (not _is_short(name) or _is_the_servers(name, kind)):
        text = f"CELERY_AMQP_EXCHANGE = {shown(name)} cannot be the name of our exchange on RabbitMQ."
        hint = f"Write 1 to {SHORT} bytes that do not begin with {RESERVED!r}: CELERY_AMQP_EXCHANGE = 'celery'."
        yield checks.Error(text, hint=hint, id="celery.E014")
    for side in ("PUBLISHER", "CONSUMER"):
        key = sound(f"AMQP_{side}_ROUTING_KEY")
        if key and not _is_short(key):
            text = f"CELERY_AMQP_{side}_ROUTING_KEY = {shown(key)} cannot be a routing key on RabbitMQ."
            yield checks.Error(text, hint=f"Write at most {SHORT} bytes, or leave it out.", id="celery.E014")
    if kind in COPYING_TYPES:
        text = f"An exchange of type {kind!r} puts a copy of each message into every queue that is bound to it: "
        hint = "Write CELERY_AMQP_EXCHANGE_TYPE = 'direct', unless there is one queue only: then silence this check."
        more = "with two queues each task runs twice."
        yield checks.Warning(f"{text}{more}", hint=hint, id="celery.W015")


def _is_short(text: str) -> bool:
    return is_name(text) and len(text.encode()) <= SHORT


def _is_the_servers(name: str, kind: Any) -> bool:
    return name.startswith(RESERVED) and name != f"{RESERVED}{kind}"


def _routing_keys() -> Iterator[CheckMessage]:
    published, bound = conf.AMQP_PUBLISHER_ROUTING_KEY, conf.AMQP_CONSUMER_ROUTING_KEY
    if conf.AMQP_EXCHANGE_TYPE == "direct" and published != bound and is_amqp():
        yield checks.Warning(
            f"Messages for the default queue are published with the key {shown(published)}, but the queue is bound by "
            f"{shown(bound)}: on an exchange of type direct they are returned, and sending raises UnroutableMessage.",
            hint="Set CELERY_AMQP_PUBLISHER_ROUTING_KEY and CELERY_AMQP_CONSUMER_ROUTING_KEY to the same, or neither.",
            id="celery.W011",
        )


def _priorities() -> Iterator[CheckMessage]:
    if conf.QUEUE_TYPE == "quorum" and conf.QUEUE_MAX_PRIORITY:
        text = "CELERY_QUEUE_MAX_PRIORITY cannot be set for queues of type quorum: RabbitMQ refuses to declare them."
        hint = "Remove CELERY_QUEUE_MAX_PRIORITY, or write CELERY_QUEUE_TYPE = 'classic'."
        yield checks.Error(text, hint=hint, id="celery.E015")


# -- only with --deploy


def _large_messages() -> Iterator[CheckMessage]:
    size = sound("MESSAGE_MAX_BYTES")
    if size is not None and size > USUAL_LARGEST_MESSAGE:
        text = f"CELERY_MESSAGE_MAX_BYTES = {size} is more than the 16 MiB that RabbitMQ 4 takes by default."
        hint = "Write max_message_size into rabbitmq.conf, too, and silence this check; or send where the data are."
        yield checks.Warning(text, hint=hint, id="celery.W016")


def _nobodys_settings() -> Iterator[CheckMessage]:
    names = ("QUEUE_TYPE", "QUEUE_MAX_PRIORITY")
    if given := [f"CELERY_{name}" for name in names if getattr(django_settings, f"CELERY_{name}", None) is not None]:
        text = f"{_nothing(given)}: CELERY_BROKER_URL = {shown(conf.BROKER_URL)} is not RabbitMQ."
        hint = f"Remove {_listed(given)}, or write CELERY_BROKER_URL = 'amqp://user:password@host:5672/vhost'."
        yield checks.Warning(text, hint=hint, id="celery.W017")
