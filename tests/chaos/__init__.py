"""Faults at random moments, then invariants: nothing is lost, nothing is stuck, nothing runs twice without a cause.

    python -m tests.chaos --seconds 60 [--place A,B] [--seed N] [--mutant NAME] [--keep] [--verbose]

Two workers run all the time while producers send tasks and processes are killed. Everything that happens goes into one
append-only file, the history, which lies outside of every process and server that is killed; `checker` reads it.
"""
