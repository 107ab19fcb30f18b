"""Host settings: where things live. By flag or OFFGRIDD_* only; never models, which are the manifest's."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from offgridd import places


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OFFGRIDD_", extra="forbid")

    manifest: Path = Path("/etc/offgridd/offgridd.yaml")
    state_dir: Path = Field(default_factory=places.state)
    admin_socket: Path = Field(default_factory=lambda: places.runtime() / "admin.sock")
    store_roots: tuple[Path, ...] = ()
    log_level: str = "info"
    engine: Literal["llama", "fake"] = "llama"  # fake: deterministic letters, for tests and benchmarks
