"""What the processes of a worker hold, read from /proc."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.servers.processes import Identity

PRIVATE = ("Private_Clean", "Private_Dirty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Memory in KiB: PSS splits shared pages among those that share them, USS is what the process has alone."""

    pid: int
    pss: int
    uss: int
    descriptors: int
    threads: int


def held(process: Identity) -> Held:
    """Read what `process` holds, which must live."""
    folder = Path(f"/proc/{process.pid}")
    memory = _fields(folder / "smaps_rollup")
    return Held(
        pid=process.pid,
        pss=memory["Pss"],
        uss=sum(memory[name] for name in PRIVATE),
        descriptors=sum(1 for _ in (folder / "fd").iterdir()),
        threads=_fields(folder / "status")["Threads"],
    )


def _fields(path: Path) -> Mapping[str, int]:
    """Return the lines ``Name: number ...`` of a file."""
    pairs = (line.partition(":") for line in path.read_text(errors="replace").splitlines())
    return {name: int(rest.split()[0]) for name, _, rest in pairs if rest.split() and rest.split()[0].isdigit()}
