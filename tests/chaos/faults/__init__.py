"""All kinds of faults, by name. Each file holds a group of them; `base` says what a fault is."""

from tests.chaos.faults import deployments, machine, moments, network, processes, servers, stops
from tests.chaos.faults.base import Fault

GROUPS = (processes, moments, stops, servers, network, machine, deployments)

ALL: dict[str, Fault] = {fault.name: fault for group in GROUPS for fault in group.FAULTS}
