"""One setting: what the table in `celery.conf` is made of."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.conf import Settings
from django.conf import settings as django_settings

#: The largest number that a setting may be; in seconds, ten years. An endless one overflows somewhere far from here.
LARGEST: Final = 10 * 365 * 24 * 3600
#: The types of a setting that is a number.
NUMBER: Final = (int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: the constant here, its name in settings.py, default, type and what it means."""

    constant: str
    name: str
    default: Any
    types: tuple[type, ...]
    sentence: str
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float = LARGEST

    def value(self) -> Any:
        """Return the value in force."""
        found = _found(self.name)
        return self.default_value() if found is None else found

    def default_value(self) -> Any:
        """Return the value that is in force where the project says nothing."""
        return self.default() if callable(self.default) else self.default

    def allows(self, value: Any) -> bool:
        """Tell whether a value of the right type is among the choices, and in its bounds."""
        if self.choices and value not in self.choices and str(value).upper() not in self.choices:
            return False  # names of levels may be written in any case, as in 0.2
        return self.minimum is None or self.minimum <= _number(value) <= self.maximum

    def bound(self, value: Any) -> str:
        """Return the bound that a value is beyond, in words."""
        return f"at most {self.maximum:,}" if _number(value) > self.maximum else f"at least {self.minimum:g}"


def _found(name: str) -> Any:
    """Return what the project says of a setting, or None.

    Where it says nothing, as mostly, Django would raise two exceptions on the way: a fifth of the CPU of `delay`. What
    `override_settings` and `settings.configure` put in the place of `Settings` is asked in the long way.
    """
    wrapped = vars(django_settings)["_wrapped"]  # Django has no quick way to ask for what may not be there
    if type(wrapped) is Settings:
        return vars(wrapped).get(name)
    return getattr(django_settings, name, None)


def _number(value: Any) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


def setting(  # noqa: PLR0913 - the columns of the table
    constant: str,
    name: str,
    default: Any,
    types: type | tuple[type, ...],
    sentence: str,
    *,
    choices: tuple[Any, ...] = (),
    minimum: float | None = None,
    maximum: float = LARGEST,
) -> Setting:
    """Return one line of the table."""
    kinds = types if isinstance(types, tuple) else (types,)
    return Setting(
        constant=constant,
        name=name,
        default=default,
        types=kinds,
        sentence=sentence,
        choices=choices,
        minimum=minimum,
        maximum=maximum,
    )
