"""How this version of Django is told to send e-mails."""

from typing import Any

import django

#: Who gets error e-mails: addresses since Django 6.0, pairs of name and address before.
ADMINS: list[Any] = ["ada@example.com"] if django.VERSION >= (6, 0) else [("Ada", "ada@example.com")]


def sent_by(backend: str, **options: str) -> dict[str, Any]:
    """Return the settings that send e-mails by this backend: MAILERS since Django 6.1, EMAIL_... before."""
    if django.VERSION >= (6, 1):
        return {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
    return {"EMAIL_BACKEND": backend} | {f"EMAIL_{name.upper()}": value for name, value in options.items()}
