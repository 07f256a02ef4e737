"""The worker: four kinds of process, each with one duty.

`supervisor` forks and watches; `dispatcher` takes messages and hands them to children; a `child` runs tasks and stores
their results; the `steward` does the chores in the database.
"""
