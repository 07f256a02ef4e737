"""Faults at random moments, then invariants: nothing is lost, nothing is stuck, nothing runs twice without a cause.

    python -m tests.chaos [--seconds 45] [--place A,B] [--seed N] [--fault KIND] [--mutant NAME] [--keep] [--verbose]
    python -m tests.chaos --long FOLDER [--tasks 1000000] [--faults 500] [--place A,B] [--seed N]

Two workers run all the time while producers send tasks and processes, servers, links and the machine are broken, one
fault after the other. Everything that happens goes into one append-only file, the history, which lies outside of every
process and server that is broken; `checker` reads it.

A run has servers, a database, a queue and a folder of its own, so runs may go side by side. The first form is one run
at each place; the second one (`long`) repeats runs until enough has been done, and goes on where it was interrupted.
"""
