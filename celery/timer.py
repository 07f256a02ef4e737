"""Timers of the classic interface; `TimeoutError` is what a wait raises when its time is up."""

from celery.exceptions import TimeoutError  # noqa: A004 - the classic name

__all__ = ["TimeoutError"]
