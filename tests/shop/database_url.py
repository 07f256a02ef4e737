"""A database as one line of text, because an environment variable holds no dictionary."""

from importlib import import_module
from urllib.parse import SplitResult, unquote, urlsplit

ENGINES = {
    "mariadb": "django.db.backends.mysql",
    "mysql": "django.db.backends.mysql",
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
}


def database_from(url: str) -> dict[str, str]:
    """Return the entry of DATABASES that `url` stands for.

    >>> database_from("/tmp/shop.sqlite3")
    {'ENGINE': 'django.db.backends.sqlite3', 'NAME': '/tmp/shop.sqlite3'}
    >>> database_from("postgres://me:secret@localhost:5433/shop")["PORT"]
    '5433'

    Raises ValueError for a scheme other than mariadb, mysql, postgres, postgresql and sqlite, and for a server without
    a database name.
    """
    if "://" not in url:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": url}
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return database_from(unquote(parts.netloc + parts.path).removeprefix("/"))
    return _server_from(parts)


def _server_from(parts: SplitResult) -> dict[str, str]:
    if parts.scheme not in ENGINES:
        known = ", ".join(sorted(ENGINES))
        raise ValueError(f"the scheme {parts.scheme!r} names no database; use one of {known}, or the path of a file.")
    if len(parts.path) < 2:
        raise ValueError(f"a {parts.scheme} URL ends with the name of a database: {parts.scheme}://user@host/name.")
    if ENGINES[parts.scheme] == "django.db.backends.mysql":
        import_module("pymysql").install_as_MySQLdb()  # Django knows mysqlclient alone, which has to be compiled
    return {
        "ENGINE": ENGINES[parts.scheme],
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
    }
