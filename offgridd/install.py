"""`offgridd install` and `uninstall`: units for systemd, with the paths of this environment, written and enabled."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MARK = "# Written by `offgridd install`; a drop-in beside it survives the next one.\n"
HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))
_SIGNS = re.compile(r"""[\s%$;"'\\]""")  # that mean something in ExecStart=: systemd.service(5)
WAYS = (
    "make an environment that every user may read, as `python3 -m venv /opt/offgridd`, and install from there; "
    "or run it as yourself: offgridd install --user"
)


class InstallError(Exception):
    """It can not be done; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`bin`: the folder of the programs; None: this environment's."""

    user: bool = False
    socket: bool = False
    gpu: bool = False
    offline: bool = False
    now: bool = False
    bin: Path | None = None

    @property
    def units(self) -> Path:
        """The folder that systemd reads."""
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return home / "systemd" / "user" if self.user else Path("/etc/systemd/system")

    @property
    def manifest(self) -> Path:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return (home if self.user else Path("/etc")) / "offgridd" / "offgridd.yaml"

    @property
    def programs(self) -> Path:
        return self.bin or Path(sys.executable).parent


def files(wanted: Wanted) -> dict[Path, str]:
    """What is written, by path. Raises InstallError where an option makes no sense."""
    if wanted.user and (wanted.socket or wanted.gpu or wanted.offline):
        raise InstallError("cannot use --socket, --gpu and --offline with --user: a user's service is not confined")
    service = "offgridd-user.service" if wanted.user else "offgridd.service"
    found = {wanted.units / "offgridd.service": _unit(service, wanted)}
    if wanted.socket:
        found[wanted.units / "offgridd.socket"] = _unit("offgridd.socket", wanted)
    for name in [name for name in ("gpu", "offline") if getattr(wanted, name)]:
        found[wanted.units / "offgridd.service.d" / f"10-{name}.conf"] = _unit(f"drop-ins/{name}.conf", wanted)
    if wanted.gpu:
        found[Path("/etc/sysusers.d/offgridd.conf")] = _unit("offgridd.sysusers", wanted)
    if not wanted.manifest.exists():
        found[wanted.manifest] = _data("config", "offgridd.yaml")
    return found


def install(wanted: Wanted) -> list[str]:
    """Writes, enables and, where that is asked, starts; gives what was done. Raises InstallError."""
    if _SIGNS.search(str(wanted.programs)):
        raise InstallError(f"cannot name {wanted.programs} in a unit: systemd reads blanks and signs; {WAYS}")
    if not wanted.user:
        if os.geteuid() != 0:
            raise InstallError("cannot install a system service: that is for root; use sudo, or --user")
        # HERE: a checkout that the environment points at
        for path in [wanted.programs] if wanted.bin else [wanted.programs, Path(sys.base_prefix), HERE]:
            if why := unreadable(path):
                raise InstallError(f"cannot run the service from {path}: {why}; {WAYS}")
    written = files(wanted)
    for path in written:
        if path != wanted.manifest and os.path.lexists(path) and not _is_ours(path):
            raise InstallError(
                f"cannot write {path}: `offgridd install` did not make what is there; move it away, "
                "or keep what you need of it in a drop-in (systemctl edit offgridd)"
            )
    _write(written, wanted)
    said = [f"wrote {path}" for path in written]
    if wanted.gpu:
        _run(["systemd-sysusers", "/etc/sysusers.d/offgridd.conf"])
    _systemctl(wanted, "daemon-reload")
    names = ["offgridd.service", *(["offgridd.socket"] if wanted.socket else [])]
    _systemctl(wanted, "enable", *names)
    if wanted.now:
        _systemctl(wanted, "restart", *reversed(names))
    return [*said, "enabled and started" if wanted.now else f"enabled; edit {wanted.manifest}, then start offgridd"]


def uninstall(wanted: Wanted) -> list[str]:
    """Stops and takes away what `install` wrote; manifest and state stay. Raises InstallError."""
    if not wanted.user and os.geteuid() != 0:
        raise InstallError("cannot uninstall a system service: that is for root; use sudo, or --user")
    everything = files(Wanted(user=True) if wanted.user else Wanted(socket=True, gpu=True, offline=True))
    ours = [path for path in everything if path != wanted.manifest and _is_ours(path)]
    units = [path.name for path in ours if path.suffix in (".service", ".socket")]
    if not units:
        raise InstallError("cannot uninstall: `offgridd install` wrote no unit here; nothing was changed")
    _systemctl(wanted, "disable", "--now", *sorted(units, reverse=True))
    for path in ours:
        path.unlink()
    _systemctl(wanted, "daemon-reload")
    return [*(f"removed {path}" for path in ours), f"{wanted.manifest} and what was fetched stay"]


def _write(texts: Mapping[Path, str], wanted: Wanted) -> None:
    """The system's files are for all to read, whatever root's umask is: the service is another user."""
    before = os.umask(0o022)
    if wanted.user:
        os.umask(before)
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except OSError as error:
        raise InstallError(f"cannot write {error.filename}: {error.strerror}") from error
    finally:
        os.umask(before)


def unreadable(path: Path) -> str:
    """Why a service without rights could not run what lies there; "" where it can."""
    resolved = path.resolve()
    for hidden in HIDDEN:
        if resolved.is_relative_to(hidden):
            return f"services do not see {hidden}"
    for one in (resolved, *resolved.parents):
        if not one.stat().st_mode & stat.S_IXOTH:
            return f"{one} is closed to other users"
    return ""


def _unit(name: str, wanted: Wanted) -> str:
    text = _data("systemd", name)
    for program in ("offgridd", "offgrid"):
        text = text.replace(f"/usr/bin/{program} ", f"{wanted.programs}/{program} ")
    return MARK + text


def _data(kind: str, name: str) -> str:
    """A file of ours: part of the package, or of the checkout that it is used from."""
    packed = HERE / "data" / kind / name
    return (packed if packed.exists() else HERE.parent / kind / name).read_text()


def _is_ours(path: Path) -> bool:
    try:
        return path.read_text().startswith(MARK)
    except OSError:
        return False


def _systemctl(wanted: Wanted, *args: str) -> None:
    _run(["systemctl", *(["--user"] if wanted.user else []), *args])


def _run(argv: Sequence[str]) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except OSError as error:
        raise InstallError(f"cannot run {argv[0]}: {error.strerror}; is systemd there?") from error
    if done.returncode:
        raise InstallError(f"cannot {' '.join(argv)}: {' '.join(done.stderr.split())}")
