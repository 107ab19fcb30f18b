"""A real systemd as PID 1 of namespaces of its own, on a throw-away overlay of a root file system. Needs root.

Up in about half a second; nothing is installed. There is no memory controller, the network is loopback alone, and
/tmp is empty. The checkout stands under /opt/offgridd/src, with wrappers in /opt/offgridd/bin.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from support.rig import until

SOURCE = Path(__file__).parents[2]
BIN = "/opt/offgridd/bin"
_PYTHON = Path(sys.base_prefix)

# $1: folder for the overlay, $2: root below it, $3: the checkout, $4: Python's prefix
_INIT = r"""
set -eu
work=$1 root=$1/root
mount -t tmpfs -o size=1g tmpfs "$work"
mkdir "$work/upper" "$work/work" "$root"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$work/upper,workdir=$work/work" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
for place in dev:755 run:755 tmp:1777; do
  mkdir -p "$root/${place%:*}"
  mount -t tmpfs -o "mode=${place#*:}" tmpfs "$root/${place%:*}"
done
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$root/opt/offgridd/src" "$root/opt/offgridd/bin" "$root$4"
mount --bind "$3" "$root/opt/offgridd/src"
mount --bind "$4" "$root$4"
echo /opt/offgridd/src > "$work/pth"   # the environment's own says where the checkout is outside
for file in "$root"/opt/offgridd/src/.venv/lib/python*/site-packages/*offgridd*.pth; do
  mount --bind "$work/pth" "$file"
done
for name in offgridd offgrid; do
  program=$root/opt/offgridd/bin/$name
  printf '#!/bin/sh\nexport PYTHONDONTWRITEBYTECODE=1\n' > "$program"
  run="from offgridd.__main__ import $name; $name()"
  printf 'exec /opt/offgridd/src/.venv/bin/python -c "%s" "$@"\n' "$run" >> "$program"
  chmod 755 "$program"
done
mkdir -p "$root/run/systemd/system"
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n' > "$root/run/systemd/system/rig.target"
chmod 755 "$root/root"
hostname rig
cd "$root"
mkdir run/old
pivot_root . run/old
umount -l run/old
rmdir run/old
mount --make-rshared /   # else the service's user could not read its credentials
exec env -i container=rig PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system systemd.unit=rig.target \
  systemd.show_status=0
"""


class SystemdRig:
    """One systemd; `root` is the file system that it runs on."""

    def __init__(self, folder: Path, root: Path = Path("/")) -> None:
        self._folder, self._root = folder, root
        unified = Path("/sys/fs/cgroup/unified")
        self._cgroup = (
            unified if unified.is_dir() else Path("/sys/fs/cgroup")
        ) / f"offgridd-rig-{os.getpid()}-{folder.name}"
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        (self._cgroup / "payload").mkdir(parents=True)
        spaces = ["--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--propagation", "private"]
        enter = 'echo $$ > "$0/payload/cgroup.procs"; exec "$@"'
        argv = ["bash", "-c", enter, self._cgroup, "setsid", "unshare", "--fork", "--kill-child=SIGKILL", *spaces]
        argv += ["bash", "-c", _INIT, "rig", self._folder, self._root, SOURCE, _PYTHON]
        with open(self._folder.with_suffix(".console"), "wb") as console:
            self._process = subprocess.Popen(
                [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        until(self._is_up, 30)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._folder.with_suffix(".console").read_text()
        return self._leader() is not None and self.run("systemctl", "is-active", "-q", "rig.target").returncode == 0

    def _leader(self) -> int | None:
        """PID 1 of the rig, as it is called outside."""
        assert self._process is not None
        pid = self._process.pid
        try:
            found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
        return int(found[0]) if found else None

    def enter(self, *argv: str) -> list[str]:
        """What runs `argv` inside."""
        return ["nsenter", "-t", str(self._leader()), "-a", "--", *argv]

    def run(self, *argv: str, text: str | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.enter(*argv), input=text, capture_output=True, text=True, timeout=timeout)

    def do(self, *argv: str) -> str:
        """Its output; it must succeed."""
        done = self.run(*argv)
        assert done.returncode == 0, f"{argv}: {done.stderr}{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """By rename, as editors do."""
        done = self.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && cat > "$0.new" && mv "$0.new" "$0"', path, text=text)
        assert done.returncode == 0, done.stderr

    def show(self, unit: str, name: str) -> str:
        return self.do("systemctl", "show", "-P", name, unit).strip()

    def journal(self, unit: str = "offgridd.service") -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def python(self, code: str, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return self.run("/opt/offgridd/src/.venv/bin/python", "-c", code, *args, timeout=timeout)

    def down(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)  # --kill-child takes PID 1, and that takes the rest
            self._process.wait()
        until(self._swept)

    def _swept(self) -> bool:
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        return not self._cgroup.exists()


def trixie() -> Path:
    """A Debian 13 tree, with systemd 257; made once and kept beside the wheels."""
    cache = Path(os.environ.get("OFFGRIDD_CACHE") or Path.home() / ".cache" / "offgridd") / "trixie-1"
    if cache.is_dir():
        return cache
    if not shutil.which("mmdebstrap"):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "mmdebstrap"], check=True)
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)"], check=True, capture_output=True, text=True
    ).stdout
    mirror = next(line.split()[0] for line in listed.splitlines() if "-" not in line.split()[1])
    packages = (
        "systemd,base-files,base-passwd,libc-bin,util-linux,bash,dash,coreutils,grep,sed,mawk,procps,libssl3t64,libffi8,"
        "libsqlite3-0,libbz2-1.0,liblzma5,libreadline8t64,zlib1g,libncursesw6,libuuid1,libgomp1,libstdc++6"
    )
    new = cache.with_name(cache.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    argv = ["mmdebstrap", "--quiet", "--variant=extract", "--mode=root", "--skip=output/dev,output/mknod"]
    argv += ['--aptopt=APT::Install-Recommends "false"', "--dpkgopt=path-exclude=/usr/share/{doc,man,locale}/*"]
    argv += [f"--include={packages}", "trixie", str(new)]
    argv += [f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} trixie main"]
    subprocess.run(argv, check=True)
    for name in ("passwd", "group"):
        shutil.copy(new / f"usr/share/base-passwd/{name}.master", new / f"etc/{name}")
    subprocess.run(["chroot", new, "ldconfig"], check=True)
    for unit in ("systemd-firstboot", "systemd-modules-load"):
        (new / f"etc/systemd/system/{unit}.service").symlink_to("/dev/null")
    new.rename(cache)
    return cache
