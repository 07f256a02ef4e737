from celery.task import task


@task
def add(x: int, y: int) -> int:
    return x + y
