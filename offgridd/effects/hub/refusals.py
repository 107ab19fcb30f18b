"""What a hub's refusal means. Pure: the rules are those of huggingface.co, seen in its answers."""

from __future__ import annotations

from collections.abc import Mapping

from offgridd.core.hub import HubFailure
from offgridd.effects.hub.session import seconds_to_wait

LIMITED = "the hub's rate limit is used up"
_BAD_TOKEN = "Invalid credentials in Authorization header"


def refusal(status: int, headers: Mapping[str, str], repo: str, *, anonymous: bool) -> HubFailure:
    """Of an answer with `status` of 400 or more to a question about `repo`. `headers`: lower-case names."""
    code, said = headers.get("x-error-code", ""), headers.get("x-error-message", "")
    if status == 429:
        wait = seconds_to_wait(headers)
        return HubFailure("RateLimited", f"cannot ask for {repo}: {LIMITED}", True, wait)
    if status >= 500 or status == 408:
        return HubFailure("HubUnavailable", f"cannot ask for {repo}: the hub answers {status}", True,
                          seconds_to_wait(headers))  # fmt: skip
    if said == _BAD_TOKEN:
        return HubFailure("TokenRefused", "cannot ask the hub: it does not know the token; renew it")
    if code == "GatedRepo":
        do = "declare a token" if anonymous else "ask for access with the account of the token"
        return HubFailure("Gated", f"cannot read {repo}: it is gated; accept its terms at the hub and {do}")
    if said == "Access to this resource is disabled.":
        return HubFailure("Disabled", f"cannot read {repo}: the hub has disabled it")
    if code == "RevisionNotFound":
        return HubFailure(
            "RevisionNotFound", f"cannot find the revision in {repo}: {said or 'it has none of that name'}"
        )
    if code == "EntryNotFound":
        return HubFailure("FileNotInRepo", f"cannot find the file in {repo}: it has none of that name")
    if code == "RepoNotFound" or status in (401, 404):
        hint = "or is private, and no token is declared" if anonymous else "or the token may not see it"
        return HubFailure("RepoNotFound", f"cannot find {repo}: the hub has no such repository, {hint}")
    return HubFailure("HubRefused", f"cannot ask for {repo}: the hub answers {status}{': ' + said if said else ''}")
