"""A soak: a million tasks of every kind on one worker, which must end as it was after the first 10,000.

    python -m tests.soak [--tasks N] [--place postgresql|sqlite|rabbitmq] [--report FOLDER]

Servers are its own. Memory, descriptors, threads, connections, and the sizes of tables and indexes are read at the
start, after the first 10,000 tasks, every 50,000 and at the end; `verdict` says how much more each may be, and why.
"""
