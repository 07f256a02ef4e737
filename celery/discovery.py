"""Finds the tasks of a project: the module ``tasks`` of every installed application."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from django.apps import apps


def autodiscover() -> list[ModuleType]:
    """Import ``tasks`` of every installed application and return the modules found.

    What an import raises comes out here. Raises Django's AppRegistryNotReady before ``django.setup()``.
    """
    found = (find_related_module(config.name, "tasks") for config in apps.get_app_configs())
    return [module for module in found if module is not None]


def find_related_module(app: str, related_name: str) -> ModuleType | None:
    """Import ``app.related_name``, or return None if there is no such module.

    An error inside the module is the caller's to see: it is raised, not taken for absence.
    """
    package = import_module(app)
    if not hasattr(package, "__path__") or find_spec(f"{app}.{related_name}") is None:
        return None
    return import_module(f"{app}.{related_name}")
