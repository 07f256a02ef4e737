"""The tasks. What they return is not kept: the result is the state of the job's row."""

from procrastinate.contrib.django import app

from benchmarks.contenders import bodies


@app.task
def noop(argument):
    return argument


@app.task
def mark(argument):
    bodies.mark(argument)


@app.task
def pause(argument):
    bodies.pause(argument)


@app.task
def size(argument):
    return len(argument)
