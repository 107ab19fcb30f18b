"""The section `git`: a folder of a Git repository that says which models there are."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from offgridd.core.desired import GitSpec
from offgridd.manifest import values
from offgridd.manifest.fields import Interval, Section, live
from offgridd.manifest.token import Token

_PATH = {"type": "string", "minLength": 1, "maxLength": values.MAX_PATH}
Folder = Annotated[str, AfterValidator(values.inner_folder), WithJsonSchema(_PATH)]
HostPath = Annotated[str, AfterValidator(values.host_path), WithJsonSchema(_PATH)]
GitAddress = Annotated[str, AfterValidator(values.git_address)]


class Verify(Section):
    """Whose commits are taken. Without it everyone's who may push are."""

    allowedSigners: HostPath = live(  # noqa: N815 -- as ssh-keygen and Git name it
        ...,
        "A file of this host in the format of ssh-keygen's ALLOWED SIGNERS: the newest commit has to be signed by one "
        "of its keys.",
    )


class Git(Section):
    """Where `models` and `defaults` come from instead of this file. Only this host's own file may say it."""

    url: GitAddress = live(..., "The repository: https://HOST/PATH, or file:///PATH of this host.")
    ref: str | None = live(
        None, "A branch or a tag. Default: the branch that the repository's HEAD names.", pattern=values.REVISION
    )
    path: Folder = live(".", "The folder in it that holds offgridd.yaml, and conf.d and offgridd.lock where there are.")
    interval: Interval = live("1m", "How often it is asked, at least 1s; a tenth earlier or later.")
    verify: Verify | None = Field(default=None, description="Whose commits are taken. Default: all of who may push.")
    token: Token | None = Field(default=None, description="For https: a token that may read the repository.")

    def spec(self) -> GitSpec:
        given = {key: value for key, value in self.given().items() if key != "verify"}
        signers = self.verify.allowedSigners if self.verify else None
        return GitSpec(**{**given, "token": self.token and self.token.secret()}, signers=signers)
