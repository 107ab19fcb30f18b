"""Repositories made and signed with the real git and ssh-keygen, as those who push to one have them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ME = {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")} | {
    f"GIT_CONFIG_{which}": "/dev/null" for which in ("GLOBAL", "SYSTEM")
}


def keypair(path: Path, kind: str = "ed25519") -> str:
    """A private key at `path`; the public one as a line."""
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(argv, check=True, timeout=60)
    return path.with_name(path.name + ".pub").read_text().strip()


@dataclass
class GitRepo:
    """A work tree, whose `.git` serves as the remote."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def git(self, *args: str) -> str:
        env = {**os.environ, **_ME}
        done = subprocess.run(["git", *args], cwd=self.folder, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | None], key: Path | None = None, *, amend: bool = False) -> str:
        """The commit that writes `files` (None removes one), signed with `key`. Its id."""
        for name, text in files.items():
            place = self.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                place.unlink()
            else:
                place.write_text(text)
        self.git("add", "-A")
        sign = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={key}"] if key else []
        how = ["-S"] if key else ["--no-gpg-sign"]
        self.git(*sign, "commit", "-q", "--allow-empty", "-m", "c", *how, *(["--amend"] if amend else []))
        return self.git("rev-parse", "HEAD")
