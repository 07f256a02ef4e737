"""What a task raises, `get` raises: the same class, the same arguments, and the traceback is kept beside it.

>>> from failures import OutOfStock, pay
>>> result = pay.delay(3)
>>> try:
...     result.get()
... except OutOfStock as error:
...     print(error, error.args)
3 left (3,)
>>> result.status
'FAILURE'
>>> result.result
OutOfStock(3)

The `__init__` of the exception is not run to make it again. What it had set is stored, where JSON can carry it:

>>> result.result.left
3

A result that JSON cannot carry is a failure of its task:

>>> from failures import stock
>>> stock.delay().get()
Traceback (most recent call last):
...
celery.exceptions.UnencodableResult: failures.stock returned a set that JSON cannot carry ...

A task that was not started in time says so:

>>> pay.apply_async((3,), expires=-1).get()
Traceback (most recent call last):
...
celery.exceptions.TaskExpired: failures.pay was to start before ...
"""

from celery.task import task


class OutOfStock(Exception):
    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left

    def __str__(self) -> str:
        return f"{self.args[0]} left"


@task
def pay(left: int) -> None:
    raise OutOfStock(left)


@task
def stock() -> set[str]:
    return {"apples", "pears"}
