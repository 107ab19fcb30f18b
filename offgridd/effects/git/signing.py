"""Whether a commit is signed by one of those whom the host trusts: an SSH signature, and ssh-keygen's allowed signers.

The format of the signature is OpenSSH's PROTOCOL.sshsig, that of the list is in ssh-keygen(1). sshsig is asked, not
dulwich's own check: that tells a signature that is wrong from a key that is not trusted only in its text, trusts the
key of a `cert-authority` line as if it had signed itself, and refuses all keys when one has expired.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

from dulwich.errors import ObjectFormatException
from dulwich.objects import SIGNATURE_SSH, Commit
from sshsig.allowed_signers import AllowedSigner, load_allowed_signers_file
from sshsig.ssh_public_key import PublicKey
from sshsig.sshsig import check_signature

NAMESPACE = "git"
KINDS = "ssh-ed25519 or ssh-rsa"
_MOST = 1 << 20  # bytes of the list


class Refused(Exception):
    """The commit is not taken: the reason that SourceVerified has then, and the text."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def check_signer(commit: Commit, signers: Path) -> None:
    """Raises Refused."""
    trusted, begin = _trusted(signers), f"cannot take commit {commit.id.decode()[:12]}: "
    try:
        payload, signature, kind = commit.extract_signature()
    except ObjectFormatException:
        raise Refused(
            "BadSignature", f"{begin}its signature is of no known kind; sign it with ssh, as git does"
        ) from None
    if signature is None:
        raise Refused("UnsignedCommit", f"{begin}it is not signed; sign it with ssh, as git does")
    if kind != SIGNATURE_SSH:
        raise Refused("UnknownSigner", f"{begin}it is signed with OpenPGP, and the list is one of SSH keys; use ssh")
    try:
        key = check_signature(payload, signature, NAMESPACE)
    except NotImplementedError:
        text = f"{begin}it is signed with a key of a kind that cannot be checked here; use {KINDS}"
        raise Refused("UnknownSigner", text) from None
    except Exception as error:  # it is made of bytes that anyone may have sent, and asserts are among what is raised
        text = f"{begin}its signature is not that of its content; somebody has changed it"
        raise Refused("BadSignature", text) from error
    if key not in trusted:
        text = (
            f"{begin}who signed it is not in {signers}, or not at this time; add the key there if it is to be trusted"
        )
        raise Refused("UnknownSigner", text)


def _trusted(path: Path) -> set[PublicKey]:
    """The keys that may sign now and can be checked. Raises Refused where the list can not be read whole."""
    found = set()
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a FIFO would keep us until our time is up
                raise ValueError("it is not a regular file")
            text = file.read(_MOST + 1).decode()
        if len(text) > _MOST:
            raise ValueError("it is too long")
        for signer in load_allowed_signers_file(io.StringIO(text)):
            if _may_sign(signer, time.time()):
                with contextlib.suppress(NotImplementedError):  # what it signs can not be checked, and is refused so
                    found.add(PublicKey.from_openssh_str(f"{signer.key_type} {signer.base64_key}"))
    except OSError as error:
        text = f"cannot read the allowed signers {path}: {error.strerror}; bring the file back, or mend its mode"
        raise Refused("SignersUnreadable", text) from None
    except (ValueError, IndexError) as error:
        why = " ".join(str(error).split())[:200]
        raise Refused("SignersUnreadable", f"cannot read the allowed signers {path}: {why}; mend it") from None
    return found


def _may_sign(signer: AllowedSigner, now: float) -> bool:
    """Raises ValueError."""
    options = signer.options or {}
    if "cert-authority" in options:  # its key signs keys, not commits
        return False
    spaces = options.get("namespaces")
    if spaces is not None and NAMESPACE not in (one.strip() for one in spaces.split(",")):
        return False
    after, before = options.get("valid-after"), options.get("valid-before")
    return (after is None or now >= _seconds(after)) and (before is None or now < _seconds(before))


def _seconds(text: str) -> float:
    """YYYYMMDD[HHMM[SS]][Z]. Without the Z ssh-keygen means the host's time; raises ValueError for anything else."""
    digits, zone = text.removesuffix("Z"), UTC if text.endswith("Z") else None
    form = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(digits))
    if form is None or not digits.isdigit():
        raise ValueError(f"{text} is no time")
    return datetime.strptime(digits, form).replace(tzinfo=zone).timestamp()
