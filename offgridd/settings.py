"""Host settings: where things live. By flag or OFFGRIDD_* only; never models, which are the manifest's."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def runtime_folder() -> Path:
    """Where sockets go: systemd's RuntimeDirectory, else the user's, else a folder in /tmp of this user alone."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    if os.geteuid() == 0:
        return Path("/run/offgridd")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/offgridd-{os.geteuid()}") / "offgridd"


def state_folder() -> Path:
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/offgridd")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "offgridd"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OFFGRIDD_", extra="forbid")

    manifest: Path = Path("/etc/offgridd/offgridd.yaml")
    state_dir: Path = Field(default_factory=state_folder)
    admin_socket: Path = Field(default_factory=lambda: runtime_folder() / "admin.sock")
    store_roots: tuple[Path, ...] = ()
    log_level: str = "info"
