"""Many calls at once: task sets, maps, and functions that are no tasks.

A task set is a task and its calls. Each call is `[args, kwargs]`:

>>> from celery.task import TaskSet
>>> from task_sets import price
>>> results = TaskSet(price, [[["apple"], {}], [["pear"], {"number": 3}], [["plum"]]]).run()
>>> results.total
3
>>> results.join(timeout=30)
[30, 120, 15]
>>> results.successful(), results.failed(), results.completed_count()
(True, False, 3)

`iterate` has the values in the order in which they arrive:

>>> sorted(results.iterate())
[15, 30, 120]

What a subtask raises, `join` and `iterate` raise, without waiting for the rest:

>>> TaskSet(price, [[["apple"]], [["melon"]]]).join()
Traceback (most recent call last):
...
KeyError: 'melon'

A map calls any function that a worker can import, once for each list of arguments:

>>> import operator
>>> from celery.task import dmap, dmap_async, execute_remote
>>> dmap(operator.add, [[2, 2], [4, 4], [8, 8]])
[4, 8, 16]

The same without waiting: the map is a task itself, whose value is the whole list.

>>> result = dmap_async(operator.add, [[2, 2], [4, 4], [8, 8]], timeout=3600)
>>> result.get()
[4, 8, 16]

A single call:

>>> execute_remote(sorted, [3, 1, 2], reverse=True).get()
[3, 2, 1]
>>> execute_remote(lambda: 1)
Traceback (most recent call last):
...
celery.exceptions.InvalidTask: a lambda cannot be called remotely: it has no name that a worker could find it by. ...
"""

from celery.task import task

PRICES = {"apple": 30, "pear": 40, "plum": 15}


@task
def price(fruit: str, number: int = 1) -> int:
    return PRICES[fruit] * number
