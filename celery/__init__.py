"""A task queue for Django: version facts only, so that importing it costs nothing."""

VERSION = (0, 3, 0)
__version__ = ".".join(map(str, VERSION))


def is_stable_release() -> bool:
    """Tell whether this is a stable release: an even minor number, or 1.0 and later."""
    return VERSION[0] >= 1 or VERSION[1] % 2 == 0


def version_with_meta() -> str:
    """Return the version with its stability, such as ``"0.3.0 (unstable)"``."""
    return f"{__version__} ({'stable' if is_stable_release() else 'unstable'})"
