"""docs/examples/deploy: what is copied to a server says what systemd, Docker and Kubernetes know, and what we need."""

import argparse
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from celery import conf
from celery.bin import options, ping
from celery.worker.supervisor import ABANDONED, GRACE

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "examples" / "deploy"
UNITS = ("celeryd.service", "celeryd@.service")
DOCS = DEPLOY.parents[1]

#: Seconds that a worker takes to stop at most: it drains, then the dispatcher and the steward give back what is left.
LONGEST_STOP = conf.BY_CONSTANT["DRAIN_TIMEOUT"].default + 2 * GRACE

KNOWN = {
    "Unit": {"Description", "After", "Wants", "PartOf", "StartLimitIntervalSec", "StartLimitBurst"},
    "Service": {
        *("Type", "NotifyAccess", "ExecStart", "ExecReload", "Restart", "RestartSec", "SuccessExitStatus"),
        *("TimeoutStartSec", "TimeoutStopSec", "WatchdogSec", "KillMode", "OOMPolicy"),
        *("User", "Group", "UMask", "WorkingDirectory", "Environment", "EnvironmentFile"),
        *("RuntimeDirectory", "RuntimeDirectoryMode", "NoNewPrivileges", "PrivateTmp", "ProtectSystem"),
        *("ProtectKernelTunables", "ProtectKernelModules", "ProtectControlGroups", "RestrictAddressFamilies"),
        *("RestrictSUIDSGID", "LockPersonality"),
    },
    "Install": {"WantedBy"},
}


class Directives(dict[str, str]):
    """A directive that stands twice adds to the first, as systemd takes it."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self and isinstance(value, list):
            value = [*dict.__getitem__(self, name), *value]
        super().__setitem__(name, value)


def unit(name: str) -> RawConfigParser:
    parser = RawConfigParser(dict_type=Directives, strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / name).read_text(encoding="utf-8"))
    return parser


def variables(text: str) -> list[str]:
    """Return the variables that begin like ours."""
    return re.findall(r"\bCELERYD_\w+", text)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def assert_understood(command: list[str]) -> None:
    """Fail if the console script does not know one of these options."""
    program, *arguments = command
    assert program.rpartition("/")[2] == "celeryd"
    if "--ping" in arguments:
        ping._parse([*arguments, "--socket", "x"])
        return
    parser = argparse.ArgumentParser(exit_on_error=False)
    options.add_arguments(parser)
    parser.parse_args(arguments)


class TestUnits:
    @pytest.mark.parametrize("name", UNITS)
    def test_systemd_knows_each_directive(self, name: str) -> None:
        found = unit(name)

        assert {section: set(found[section]) - KNOWN[section] for section in found.sections()} == {
            "Unit": set(),
            "Service": set(),
            "Install": set(),
        }

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
    @pytest.mark.parametrize("name", UNITS)
    def test_systemd_has_nothing_to_say_against_it(self, name: str, tmp_path: Path) -> None:
        # given
        text = (DEPLOY / name).read_text(encoding="utf-8")
        text = text.replace("/srv/shop/venv/bin/celeryd", "/bin/true").replace("=shop\n", "=root\n")
        (tmp_path / name).write_text(text)

        # when
        command = ["systemd-analyze", "verify", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

        # then
        assert [line for line in done.stderr.splitlines() if name in line] == []
        assert done.returncode == 0

    @pytest.mark.parametrize("name", UNITS)
    def test_it_gives_a_worker_the_time_that_it_takes_to_stop(self, name: str) -> None:
        assert seconds(unit(name)["Service"]["TimeoutStopSec"]) > LONGEST_STOP

    @pytest.mark.parametrize("name", UNITS)
    def test_it_takes_the_word_of_the_supervisor_alone(self, name: str) -> None:
        service = unit(name)["Service"]

        assert (service["Type"], service["NotifyAccess"], service["KillMode"]) == ("notify", "main", "mixed")
        assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
        assert service["SuccessExitStatus"] == str(ABANDONED)
        assert service["OOMPolicy"] == "continue"  # else one greedy task would end them all
        assert_understood(shlex.split(service["ExecStart"]))

    @pytest.mark.parametrize("name", UNITS)
    def test_the_socket_is_in_the_folder_that_systemd_makes(self, name: str) -> None:
        service = unit(name)["Service"]

        assert f"CELERYD_SOCKET=%t/{service['RuntimeDirectory']}/celeryd.sock" in service["Environment"].splitlines()

    def test_one_of_several_differs_only_by_its_name(self) -> None:
        one, several = (unit(name)["Service"] for name in UNITS)

        differing = {name for name in {*one, *several} if one.get(name) != several.get(name)}

        assert differing == {"Environment", "EnvironmentFile", "RuntimeDirectory"}
        assert "CELERYD_NAME=%H.%i" in several["Environment"].splitlines()


def dockerfile() -> Iterator[tuple[str, str]]:
    """Yield the instructions and what goes with them."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            instruction, _, rest = line.partition(" ")
            yield instruction, rest


class TestContainers:
    def test_the_image_is_made_of_instructions_that_docker_knows(self) -> None:
        assert {name for name, _ in dockerfile()} <= {
            *("FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "STOPSIGNAL", "HEALTHCHECK", "CMD")
        }

    def test_its_commands_are_ours_and_run_without_a_shell(self) -> None:
        found = dict(dockerfile())
        health = found["HEALTHCHECK"].partition("CMD ")[2]

        assert_understood(json.loads(found["CMD"]))
        assert_understood(json.loads(health))
        assert found["STOPSIGNAL"] == "SIGTERM"

    def test_docker_waits_longer_for_an_answer_than_the_ping_does(self) -> None:
        timeout = re.search(r"--timeout=(\d+)s", dict(dockerfile())["HEALTHCHECK"])

        assert timeout
        assert float(timeout[1]) > ping.PATIENCE

    def test_compose_gives_its_workers_the_time_that_they_take_to_stop(self) -> None:
        services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
        workers = {name: service for name, service in services.items() if service.get("command", [""])[0] == "celeryd"}

        assert set(workers) == {"worker", "worker-mail"}
        for worker in workers.values():
            assert seconds(worker["stop_grace_period"]) > LONGEST_STOP
            assert worker["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
            assert_understood(worker["command"])

    def test_kubernetes_asks_the_worker_itself_and_gives_it_time(self) -> None:
        spec = yaml.safe_load((DEPLOY / "worker.kubernetes.yaml").read_text(encoding="utf-8"))["spec"]["template"][
            "spec"
        ]
        (container,) = spec["containers"]

        assert spec["terminationGracePeriodSeconds"] > LONGEST_STOP
        assert_understood(container["command"])
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert_understood(container[probe]["exec"]["command"])
            assert container[probe]["timeoutSeconds"] > ping.PATIENCE
        assert "--ready" not in container["livenessProbe"]["exec"]["command"]
        assert "--ready" in container["readinessProbe"]["exec"]["command"]


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
class TestEachFile:
    def test_its_variables_are_options_of_ours(self, path: Path) -> None:
        text = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))

        assert set(variables(text)) - {"CELERYD_DRAIN_TIMEOUT"} <= set(options.VARIABLES)

    def test_it_is_shown_on_a_page(self, path: Path) -> None:
        pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.rst"))

        assert f"examples/deploy/{path.name}" in pages
