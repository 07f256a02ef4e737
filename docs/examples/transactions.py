"""Sending follows the transaction: the message is a row in it.

>>> from celery.models import Message
>>> from django.db import transaction
>>> from transactions import confirm

A worker gets nothing of what was rolled back:

>>> with transaction.atomic():
...     result = confirm.delay("4711")
...     transaction.set_rollback(True)
>>> Message.objects.count()
0

Waiting inside would never end, so it is refused:

>>> with transaction.atomic():
...     confirm.delay("4711").get()
Traceback (most recent call last):
...
celery.exceptions.WouldWaitForever: the result of task ... cannot be waited for: it was sent inside a transaction ...

After the commit the message is there for the workers:

>>> with transaction.atomic():
...     result = confirm.delay("4711")
>>> Message.objects.get().task
'transactions.confirm'
"""

from celery.task import task


@task
def confirm(number: str) -> str:
    return f"Order {number} is confirmed."
