"""Host settings: where things live. By flag or OFFGRIDD_* only; never models, which are the manifest's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from offgridd import places


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OFFGRIDD_", extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _private_places(cls, given: dict[str, Any]) -> dict[str, Any]:
        usual = {"state_dir": places.user_state(), "admin_socket": places.user_runtime() / "admin.sock"}
        return {**usual, **given} if given.get("private") else given

    manifest: Path = Path("/etc/offgridd/offgridd.yaml")
    state_dir: Path = Field(default_factory=places.state)
    admin_socket: Path = Field(default_factory=lambda: places.runtime() / "admin.sock")
    admin_group: str | None = None  # who may use the admin socket besides its owner
    private: bool = False  # no manifest and no TCP: only the admin socket, until its last client has gone
    linger: float = 10.0  # seconds without a client after which a private daemon ends
    store_roots: tuple[Path, ...] = ()
    log_level: str = "info"
    engine: Literal["llama", "fake"] = "llama"  # fake: deterministic letters, for tests and benchmarks
