"""All kinds of faults, by name. Each file holds a group of them; `base` says what a fault is."""

from tests.chaos.faults import processes
from tests.chaos.faults.base import Fault

ALL: dict[str, Fault] = {fault.name: fault for fault in (*processes.FAULTS,)}
