"""Who may import whom: the table, and what else holds for every module of the package.

Rings, from the outside in; an arrow says "may import":

    face -> core -> port <- driver        and each of them -> fact -> word

A module may import its own ring, too. A driver is reached by its configured name only: no other ring imports one.
Third-party packages other than Django are for those that say so.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
LONGEST_FILE: Final = 350

#: ring, module, and what it imports beyond its ring.
TABLE: Final = """
word    celery
word    celery.datastructures
word    celery.exceptions
word    celery.schedules                            cronsim
word    celery.signals
word    celery.states

fact    celery.arguments
fact    celery.calling
fact    celery.conf
fact    celery.conf.project
fact    celery.conf.setting
fact    celery.conf.worker
fact    celery.current
fact    celery.discovery
fact    celery.log
fact    celery.log.file
fact    celery.log.json_lines
fact    celery.log.text
fact    celery.mail
fact    celery.mail.ceiling
fact    celery.message                              kombu.serialization kombu.utils.json
fact    celery.moments
fact    celery.platform
fact    celery.registry
fact    celery.retries
fact    celery.standing
fact    celery.timer

port    celery.backends
port    celery.backends.base
port    celery.backends.exceptions
port    celery.backends.records
port    celery.broker
port    celery.broker.base
port    celery.broker.outbox
port    celery.broker.store
port    celery.broker.store.base
port    celery.broker.store.depths
port    celery.broker.store.statements
port    celery.broker.store.workers
port    celery.broker.taking

driver  celery.backends.cache
driver  celery.backends.cache.client
driver  celery.backends.cache.expiry
driver  celery.backends.database
driver  celery.backends.periodic
driver  celery.backends.tyrant
driver  celery.backends.tyrant.client
driver  celery.backends.tyrant.protocol
driver  celery.broker.amqp                          amqp
driver  celery.broker.amqp.frames                   amqp
driver  celery.broker.amqp.line                     amqp
driver  celery.broker.amqp.properties               amqp
driver  celery.broker.amqp.publisher                amqp
driver  celery.broker.amqp.queues                   amqp
driver  celery.broker.amqp.transport                amqp kombu
driver  celery.broker.database
driver  celery.broker.memory
driver  celery.broker.redis
driver  celery.broker.redis.connection              kombu redis
driver  celery.broker.redis.envelope                kombu.utils.json
driver  celery.broker.redis.publisher
driver  celery.broker.redis.scripts
driver  celery.broker.store.mysql
driver  celery.broker.store.postgresql
driver  celery.broker.store.prepared
driver  celery.broker.store.sqlite
driver  celery.managers
driver  celery.models

core    celery.worker
core    celery.worker.announcer
core    celery.worker.beat
core    celery.worker.channel
core    celery.worker.child
core    celery.worker.chore
core    celery.worker.classic
core    celery.worker.connections
core    celery.worker.crew
core    celery.worker.deadlines
core    celery.worker.dispatcher
core    celery.worker.errands
core    celery.worker.family
core    celery.worker.health
core    celery.worker.health.listener
core    celery.worker.health.systemd
core    celery.worker.heartbeat
core    celery.worker.inline
core    celery.worker.intake
core    celery.worker.job
core    celery.worker.limits
core    celery.worker.options
core    celery.worker.parking
core    celery.worker.process                       billiard
core    celery.worker.relay
core    celery.worker.rescue
core    celery.worker.restarts
core    celery.worker.slots
core    celery.worker.steward
core    celery.worker.stopping
core    celery.worker.supervisor
core    celery.worker.suspects
core    celery.worker.tally
core    celery.worker.twins
core    celery.worker.vacuum
core    celery.worker.watchdog
core    celery.worker.window
core    celery.worker.writer
core    celery.worker.writes

face    celery.admin                                celery.models
face    celery.admin.actions
face    celery.admin.base
face    celery.admin.filters                        celery.models
face    celery.admin.links
face    celery.admin.messages                       celery.models
face    celery.admin.overview                       celery.models
face    celery.admin.overview.charts
face    celery.admin.overview.figures
face    celery.admin.overview.tiles
face    celery.admin.paging
face    celery.admin.periodic                       celery.models cronsim
face    celery.admin.results                        celery.models
face    celery.admin.scales
face    celery.admin.shown                          celery.models
face    celery.admin.workers                        celery.models
face    celery.apps
face    celery.bin
face    celery.bin.autoreload
face    celery.bin.celeryd
face    celery.bin.entry
face    celery.bin.options
face    celery.bin.ping
face    celery.bin.preflight
face    celery.bin.values
face    celery.checks
face    celery.checks.databases
face    celery.checks.places
face    celery.checks.rabbitmq
face    celery.checks.registered                    kombu.serialization
face    celery.checks.settings                      kombu.serialization
face    celery.checks.values
face    celery.checks.views
face    celery.checks.worker
face    celery.dead                                 celery.models
face    celery.history                              celery.models
face    celery.management
face    celery.management.commands
face    celery.management.commands.celery_dead      celery.models
face    celery.management.commands.celery_settings
face    celery.management.commands.celery_status
face    celery.management.commands.celeryd
face    celery.management.output
face    celery.messaging
face    celery.progress                             tqdm
face    celery.result
face    celery.status                               celery.models
face    celery.task
face    celery.task.base
face    celery.task.batches
face    celery.task.callables
face    celery.task.periodic
face    celery.task.remote
face    celery.task.sending
face    celery.task.sets
face    celery.testing
face    celery.testing.background
face    celery.testing.bench
face    celery.testing.recording
face    celery.testing.running
face    celery.urls
face    celery.views
face    celery.waiting                              celery.models
"""

MAY_IMPORT: Final = {
    "word": {"word"},
    "fact": {"fact", "word"},
    "port": {"port", "fact", "word"},
    "driver": {"driver", "port", "fact", "word"},
    "core": {"core", "port", "fact", "word"},
    "face": {"face", "core", "port", "fact", "word"},
}

#: What `delay` needs. A tasks.py imports it, perhaps before Django's applications are ready.
DELAY_PATH: Final = (
    "celery.task",
    "celery.task.base",
    "celery.message",
    "celery.messaging",
    "celery.result",
    "celery.registry",
    "celery.backends",
    "celery.broker",
)

#: What a module must not reach, also not by way of others.
NEVER_REACHES: Final = {
    **dict.fromkeys(DELAY_PATH, ("celery.models", "celery.worker")),
    "celery.worker.child": ("celery.worker.dispatcher", "celery.models"),
    "celery.worker.dispatcher": ("celery.worker.child", "celery.registry"),
    "celery.worker.steward": ("celery.worker.child", "celery.worker.dispatcher"),
    "celery.log": ("celery.worker", "celery.broker", "celery.backends"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the table."""

    ring: str
    also: frozenset[str]


def lines(table: str = TABLE) -> dict[str, Line]:
    columns = [line.split() for line in table.splitlines() if line]
    return {module: Line(ring=ring, also=frozenset(also)) for ring, module, *also in columns}


# -- what the sources say


@cache
def sources() -> dict[str, Path]:
    """Return the files of the package by module; migrations are Django's."""
    files = [file for file in (ROOT / "celery").rglob("*.py") if "migrations" not in file.parts]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(sources()[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Return the modules that a module imports when it is run; those for type checkers only are left out."""
    return frozenset(name for node in nodes_at_runtime(tree(module)) for name in imported(node))


def nodes_at_runtime(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_for_type_checkers(child.test):
            continue
        yield child
        yield from nodes_at_runtime(child)


def is_for_type_checkers(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in {getattr(test, "id", None), getattr(test, "attr", None)}


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: relative imports hide who imports whom"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in sources() else str(node.module)


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == "celery"


def is_everybodys(module: str) -> bool:
    top = module.partition(".")[0]
    return top in sys.stdlib_module_names or top == "django"


def reached(module: str) -> set[str]:
    """Return what a module imports, also by way of others, and the packages in which those are."""
    found: set[str] = set()
    pending = [module]
    while pending:
        for name in imports(pending.pop()):
            news = {name, *parents(name)} - found if is_ours(name) else set()
            found |= news
            pending += news
    return found


def parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


# -- the rules


def trespasses(module: str, line: Line, table: dict[str, Line], found: frozenset[str]) -> list[str]:
    """Return what `module` imports against the rules of its ring."""
    return sorted(
        name
        for name in found
        if not is_everybodys(name)
        and not is_granted(name, line)
        and not (is_ours(name) and name in table and table[name].ring in MAY_IMPORT[line.ring])
    )


def is_granted(name: str, line: Line) -> bool:
    return any(name == granted or name.startswith(f"{granted}.") for granted in line.also)


@pytest.mark.parametrize("module", sorted(sources()))
def test_every_module_has_its_line_in_the_table(module: str) -> None:
    assert module in lines()


@pytest.mark.parametrize("module", sorted(lines()))
def test_every_line_of_the_table_has_its_module(module: str) -> None:
    assert module in sources()


@pytest.mark.parametrize("module", sorted(set(lines()) & set(sources())))
def test_a_module_imports_what_its_ring_allows(module: str) -> None:
    assert trespasses(module, lines()[module], lines(), imports(module)) == []


@pytest.mark.parametrize("module", sorted(set(lines()) & set(sources())))
def test_what_a_module_is_granted_it_uses(module: str) -> None:
    unused = [
        granted
        for granted in lines()[module].also
        if not any(f"{name}.".startswith(f"{granted}.") for name in imports(module))
    ]

    assert unused == []


@pytest.mark.parametrize(("module", "forbidden"), sorted(NEVER_REACHES.items()), ids=sorted(NEVER_REACHES))
def test_a_module_never_reaches_what_is_not_its_business(module: str, forbidden: tuple[str, ...]) -> None:
    assert sorted(reached(module) & set(forbidden)) == []


@pytest.mark.parametrize("module", DELAY_PATH)
def test_sending_reaches_no_driver(module: str) -> None:
    assert sorted(name for name in reached(module) if lines()[name].ring == "driver") == []


def test_a_child_knows_no_kombu() -> None:
    assert not [name for name in imports("celery.worker.child") if name.startswith("kombu")]


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles({module: set(imports(module)) & set(sources()) for module in sources()}) == []


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the modules that are left when those that import none of the left ones are taken away, again and again."""
    left = dict(graph)
    while leaves := [module for module, wanted in left.items() if not wanted & set(left)]:
        for module in leaves:
            del left[module]
    return [[module, *sorted(wanted & set(left))] for module, wanted in sorted(left.items())]


@pytest.mark.parametrize("module", sorted(sources()))
def test_nothing_is_imported_inside_a_function(module: str) -> None:
    functions = [
        node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    inner = [
        node.lineno
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]

    assert inner == []


@pytest.mark.parametrize("module", sorted(sources()))
def test_a_file_is_short_enough_to_be_read(module: str) -> None:
    assert len(sources()[module].read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_sending_can_be_imported_before_django_is_ready() -> None:
    program = f"""
import sys
before = set(sys.modules)  # who measures coverage has brought modules of its own
from django.apps import apps
from django.conf import settings
settings.configure()
import {", ".join(DELAY_PATH)}
assert not apps.ready
print(*sys.modules.keys() - before)
"""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    not_yet = {name for name, line in lines().items() if line.ring in {"driver", "core"}} | {"psycopg", "sqlite3"}
    assert set(done.stdout.split()) & not_yet == set()


# -- the rules themselves, on planted faults


class TestTheRules:
    PLANTED = lines("""
word    celery.words
fact    celery.arguments
fact    celery.calling
fact    celery.conf
fact    celery.conf.project
fact    celery.conf.worker
port    celery.port
driver  celery.driver
core    celery.core         billiard
face    celery.face         celery.driver
""")

    @pytest.mark.parametrize(
        ("module", "wanted", "faults"),
        [
            ("celery.core", {"celery.driver"}, ["celery.driver"]),
            ("celery.core", {"celery.port", "celery.conf", "celery.words"}, []),
            ("celery.core", {"celery.face"}, ["celery.face"]),
            ("celery.port", {"celery.driver"}, ["celery.driver"]),
            ("celery.driver", {"celery.port"}, []),
            ("celery.words", {"celery.conf"}, ["celery.conf"]),
            ("celery.face", {"celery.driver"}, []),
            ("celery.core", {"billiard.context", "os.path", "django.db"}, []),
            ("celery.face", {"billiard.context"}, ["billiard.context"]),
            ("celery.core", {"celery.unheard_of"}, ["celery.unheard_of"]),
        ],
    )
    def test_a_planted_import_is_found(self, module: str, wanted: set[str], faults: list[str]) -> None:
        assert trespasses(module, self.PLANTED[module], self.PLANTED, frozenset(wanted)) == faults

    def test_a_planted_circle_is_found(self) -> None:
        assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) != []

    def test_a_line_without_a_circle_is_none(self) -> None:
        assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []

    def test_imports_for_type_checkers_do_not_count(self) -> None:
        source = ast.parse("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import celery.models\nimport os\n")

        assert [name for node in nodes_at_runtime(source) for name in imported(node)] == ["typing", "os"]
