"""Every reason that a condition, an event, a job or a refused manifest may have: what it means and what to do.

The list is closed: a test holds it against the code. Programs may match the words; docs/reasons.md is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Reason:
    """`where`: the condition that has it, or what else does; `do` is empty where nothing has to be done."""

    where: str
    word: str
    meaning: str
    do: str = ""


_HUB, _FILE, _LOAD = "Resolved, Downloaded", "Verified", "Loaded"
REASONS: Final[tuple[Reason, ...]] = (
    Reason("Accepted, SourceVerified", "ManifestMissing", "the manifest can not be read, or the commit has "
           "none; what was in effect stays", "bring the file back, mend its mode, or `path`; no link in a commit is "
           "followed"),
    Reason("Accepted", "Valid", "the newest manifest is in effect"),
    Reason("Accepted", "ParseError", "it is no YAML", "mend the line that the message names"),
    Reason("Accepted", "Empty", "it says nothing", "write `models: {}` to declare none"),
    Reason("Accepted", "DuplicateKey", "a key stands there twice", "remove one of the lines"),
    Reason("Accepted", "DuplicateAlias", "a name means two models", "choose another alias"),
    Reason("Accepted", "TooComplex", "it is larger or deeper than any manifest has to be", "make it simpler"),
    Reason("Accepted", "UnknownField", "a key that does not exist", "see docs/manifest.md"),
    Reason("Accepted", "MissingField", "a key that has to be there is not", "add it"),
    Reason("Accepted", "WrongType", "a value of another type", "write what the message says"),
    Reason("Accepted", "InvalidValue", "a value out of its range", "write what the message says"),
    Reason("Accepted", "InvalidName", "a name that models can not have", "use a-z, 0-9, dot, dash and underscore"),
    Reason("Accepted", "PathNotAllowed", "a path that leads out of where models may lie", "see --store-root"),
    Reason("Accepted", "ConflictingFields", "two values contradict each other", "remove one of them"),
    Reason("Accepted", "InsecureListen", "an address beyond loopback without a key", "listen on 127.0.0.1"),
    Reason("Accepted", "InvalidLock", "offgridd.lock is no lock", "make it anew: offgrid lock"),
    Reason("Accepted", "UnsupportedVersion", "it is of another version of the format", "see apiVersion"),
    Reason("Accepted", "NotSupportedYet", "this version does not have that yet", "remove it"),
    Reason("Accepted", "BindFailed", "an address can not be listened on", "free it, then offgrid reload"),
    Reason("Downloaded, SourceVerified", "Offline", "`offline` is declared, and nothing is asked for: a file "
           "that is not here stays away, the last commit stays in effect", "import a bundle, or take `offline` away"),
    Reason("Watched", "Watching", "edits are seen at once"),
    Reason("Watched", "WatchUnavailable", "the system tells of no edits; the file is read every 10 s", "raise "
           "fs.inotify.max_user_instances, or use offgrid reload"),
    Reason("StateWritable", "Writable", "what has to be remembered is"),
    Reason("StateWritable", "StateNotWritable", "the state directory takes nothing", "make room, or mend its mode"),
    Reason("SourceVerified", "LocalFile", "the manifest is a file of this host"),
    Reason("SourceVerified", "Fetched", "the newest commit is in effect; signatures are not asked for"),
    Reason("SourceVerified", "Signed", "the newest commit is in effect, and signed by one of the allowed signers"),
    Reason("SourceVerified", "Fetching", "the repository is asked for the first time"),
    Reason("SourceVerified", "RemoteUnavailable", "the repository does not answer; the last commit stays in effect",
           "see the message: `url`, `ref`, `token`, the network"),
    Reason("SourceVerified", "UnsignedCommit", "the newest commit is not signed; the one before stays",
           "sign it with ssh"),
    Reason("SourceVerified", "UnknownSigner", "nobody who is trusted signed it; the commit before stays", "add the key "
           "to the allowed signers, if it is to be trusted"),
    Reason("SourceVerified", "BadSignature", "its signature is not that of its content; the commit before stays",
           "find out who changed it"),
    Reason("SourceVerified", "SignersUnreadable", "the allowed signers can not be read; no commit is taken", "mend it"),
    Reason("SourceVerified", "NotFastForward", "the newest commit does not follow the one in effect, which stays", "if "
           "that is meant: offgrid reload --allow-rewind"),
    Reason("Benchmarked", "Measured", "the newest benchmark is of the model as it is loaded now"),
    Reason("Benchmarked", "NotMeasured", "no benchmark of it is kept", "offgrid benchmark MODEL"),
    Reason("Benchmarked", "OutOfDate", "it is loaded otherwise now", "offgrid benchmark MODEL"),
    Reason("Benchmarked", "NoBaseline", "there is nothing yet to hold it against for `max_regression`"),
    Reason("Benchmarked", "WaitsForIdle", "it is measured as soon as the machine is idle"),
    Reason("Benchmarked", "Measuring", "what is declared is measured beside what serves"),
    Reason("Benchmarked", "BelowThreshold", "slower than `min_generation_tps` or `max_ttft`", "see the message"),
    Reason("Benchmarked", "Regressed", "slower than before by more than `max_regression`", "take the change back, or "
           "offgrid retry MODEL"),
    Reason("Benchmarked", "NoVerdict", "worse or not can not be told from noise; it is measured again"),
    Reason("Benchmarked", "NoIdleTime", "the machine was never idle for long enough; it still waits for that"),
    Reason("Benchmarked", "NoRoom", "there is no room to load it only to be measured; it is tried again"),
    Reason("Benchmarked", "CannotHold", "there is no room for what serves and what is declared; the change is not made",
           "make room, or `on_fail: report`"),
    Reason("Benchmarked", "Disturbed", "others used the processors; it is measured again later"),
    Reason("Benchmarked", "MeasureFailed", "it could not be measured", "see the message; then offgrid retry MODEL"),
    Reason("Ready", "Held", "what is declared does not serve yet, or was judged to be worse", "see Benchmarked"),
    Reason("Ready", "AllReady", "every preload model is Ready"),
    Reason("Ready", "ModelsNotReady", "some preload model is not", "see its conditions: offgrid status"),
    Reason("Ready", "Ready", "the model is as declared"),
    Reason("Ready", "Suspended", "it serves as it did when it was suspended", "take `suspend` away to go on"),
    Reason("any", "Progressing", "work goes on"),
    Reason("any", "Waiting", "it waits for the condition before it"),
    Reason("Resolved", "Local", "a file of this host or of a package"),
    Reason("Resolved", "Pinned", "the hub was asked, and the answer is kept"),
    Reason("Resolved", "Locked", "offgridd.lock says which files they are"),
    Reason("Resolved", "Bundled", "a bundle said which files they are"),
    Reason("Resolved", "NotLocked", "the lock does not have this model", "offgrid lock"),
    Reason("Resolved", "LockOutdated", "the lock answers another question than the manifest asks", "offgrid lock"),
    Reason("Resolved", "RepoNotFound", "the hub has no such repository", "mend its name, or give a token"),
    Reason("Resolved", "RevisionNotFound", "the repository has no such revision", "mend `revision`"),
    Reason("Resolved", "FileNotInRepo", "the repository has no such file", "mend `file`; offgrid search shows them"),
    Reason("Resolved", "NoModelFiles", "the repository holds no GGUF", "choose another repository"),
    Reason("Resolved", "QuantNotFound", "the repository has no such quantisation", "choose one that the message names"),
    Reason("Resolved", "QuantNotLoadable", "a quantisation that llama.cpp does not read", "choose another"),
    Reason("Resolved", "AmbiguousQuant", "several files and nothing that tells them apart", "name one with `file`"),
    Reason("Resolved", "IncompleteShards", "shards are missing in the repository", "choose another quantisation"),
    Reason("Resolved", "TooLarge", "larger than `max_size`, or than any that fits", "raise it, or choose another"),
    Reason("Resolved", "NoDigest", "the hub does not say what the file hashes to", "declare `sha256`"),
    Reason("Resolved", "OneDigestForShards", "one `sha256` for several files", "remove it, or use a lock"),
    Reason("Resolved", "PackageNotInstalled", "the package is not in the daemon's environment", "install it there"),
    Reason("Resolved", "PackageDamaged", "the package does not say what it holds", "install it again"),
    Reason("Resolved", "FileNotInPackage", "the package has no such file", "mend `file`"),
    Reason("Resolved", "FileNotFound", "there is no such file", "mend the path, or put it there"),
    Reason("Resolved", "BadAddress", "no address can be made of it", "mend `url` or `endpoint`"),
    Reason("Resolved", "UrlRefused", "its server does not give it", "mend `url`"),
    Reason("Resolved", "UnsafeRedirect", "its server sends us where we do not go", "name the real address"),
    Reason(_HUB, "Gated", "its owner has to let you in", "ask at the hub, then give a `token`"),
    Reason(_HUB, "Disabled", "the hub has disabled the repository", "choose another"),
    Reason(_HUB, "TokenRefused", "the hub refuses the token", "give another one"),
    Reason(_HUB, "TokenUnavailable", "the token can not be read where the manifest says it is", "put it there"),
    Reason(_HUB, "HubUnreachable", "no connection to the hub", "look at the network, names and proxy"),
    Reason(_HUB, "HubUnavailable", "the hub has trouble of its own"),
    Reason(_HUB, "HubTimeout", "the hub did not answer in time"),
    Reason(_HUB, "HubSlow", "the hub sends too slowly"),
    Reason(_HUB, "HubRefused", "the hub refuses the request", "see the message"),
    Reason(_HUB, "RateLimited", "the hub wants to be left alone for a while"),
    Reason(_HUB, "BadAnswer", "it answered something else than a hub would", "look at `endpoint` and proxy"),
    Reason(_HUB, "NotAtAHub", "no hub has these bytes, and they are not here any more", "pull or import it again"),
    Reason(_HUB, "HeaderUnavailable", "the header of the file can not be read from afar"),
    Reason("Downloaded", "InStore", "the files are here"),
    Reason("Downloaded", "ContentUnavailable", "the server of the bytes has trouble"),
    Reason("Downloaded", "ContentStalled", "no bytes came for too long; it goes on where it was"),
    Reason("Downloaded", "ContentRefused", "the server of the bytes refuses", "see the message"),
    Reason("Downloaded", "ContentMissing", "the server does not have them any more", "offgrid update, or another file"),
    Reason("Downloaded", "ContentDiffers", "what comes is not what the hub promised", "offgrid update"),
    Reason("Downloaded", "TooSlow", "less than `min_rate` for too long; it is tried again", "lower min_rate"),
    Reason("Downloaded", "NeedsXet", "the server gives a file of that size by Xet only", "choose a smaller one"),
    Reason("Downloaded", "InsufficientDisk", "the file system has no room for it", "make room; offgrid gc"),
    Reason("Downloaded", "StoreFull", "`max_total` has no room for it", "raise it; offgrid gc"),
    Reason("Downloaded", "ReadOnly", "the file system is mounted read-only", "mount it for writing"),
    Reason("Downloaded", "Unwritable", "the store can not be written", "see the message"),
    Reason("Downloaded", "Unreadable", "the store can not be read", "see the message"),
    Reason("Downloaded", "InUse", "somebody else works with the same file; it is tried again"),
    Reason("Downloaded", "BlobGone", "the file left the store meanwhile; it comes again"),
    Reason("Downloaded", "InternalError", "an error of ours", "report it, with the log"),
    Reason(_FILE, "DigestKnown", "the files are those that were hashed"),
    Reason(_FILE, "DigestMismatch", "the bytes are others than they must be", "it is fetched once more; then see why"),
    Reason(_FILE, "FileChanging", "somebody writes to the file", "wait, or copy it elsewhere first"),
    Reason(_FILE, "FileChanged", "the file is not the one that was verified; it is verified again"),
    Reason(_FILE, "NotARegularFile", "a folder, pipe, device or link", "name a file"),
    Reason(_FILE, "NotGGUF", "it is no GGUF; the message says what it looks like", "name another file"),
    Reason(_FILE, "MalformedGGUF", "a GGUF that contradicts itself", "fetch it from elsewhere"),
    Reason(_FILE, "InvalidModel", "a GGUF that is no model", "name another file"),
    Reason(_FILE, "Truncated", "its end is missing", "fetch it again"),
    Reason(_LOAD, "Serving", "it answers"),
    Reason(_LOAD, "TemplateDegraded", "it answers, but chats can not be rendered", "give a `chat_template`"),
    Reason(_LOAD, "Loading", "its worker is loading the file"),
    Reason(_LOAD, "OnDemand", "the first request loads it"),
    Reason(_LOAD, "Stale", "what runs is what was declared before", "see the condition that is False"),
    Reason(_LOAD, "InsufficientMemory", "no room within `server.memory`", "raise it, or lower what the model needs"),
    Reason(_LOAD, "InsufficientVram", "no room on that GPU within `server.memory.gpu`", "lower gpu_layers or context"),
    Reason(_LOAD, "Evicted", "it made room for another; it comes back where there is room", "raise its priority"),
    Reason(_LOAD, "ContextTooLong", "more context than it was trained for", "lower `context`"),
    Reason(_LOAD, "NoClassifier", "a reranker whose file has nothing that makes a score", "another file or `pooling`"),
    Reason(_LOAD, "PoolingUnknown", "no model for text, and how it makes a vector is not said", "declare `pooling`"),
    Reason(_LOAD, "TooFewCells", "less `kv_cells` than one request needs", "raise it"),
    Reason(_LOAD, "DeterminismUnsupported", "this model or machine can not be deterministic", "take it away"),
    Reason(_LOAD, "SpeculationUnsupported", "nothing can be guessed with this model", "remove `speculative`"),
    Reason(_LOAD, "AdapterInvalid", "an adapter does not go with this model", "another adapter, or remove it"),
    Reason(_LOAD, "DraftUnsuitable", "the draft has another vocabulary, or can not guess", "name another `draft`"),
    Reason(_LOAD, "WaitsForDraft", "the file of its draft is not there yet", "see the draft's own conditions"),
    Reason(_LOAD, "WaitsForAdapter", "an adapter is on its way, or being verified", "wait"),
    Reason(_LOAD, "NoGpu", "a GPU is asked for and there is none", "gpu_layers: 0, or a build for the GPU"),
    Reason(_LOAD, "MlockFailed", "the limit on locked memory is too low", "raise LimitMEMLOCK"),
    Reason(_LOAD, "LoadFailed", "llama.cpp does not load it; the message has its last words", "offgrid logs MODEL"),
    Reason(_LOAD, "LoadTimeout", "it did not load in time; it is tried again", "look at the disk"),
    Reason(_LOAD, "NotLoaded", "it could not be loaded when that was asked, or is not now", "see the message"),
    Reason(_LOAD, "SandboxUnavailable", "`sandbox: required`, and this kernel can not confine it", "offgrid doctor"),
    Reason(_LOAD, "Probed", "the worker of OFFGRIDD_ENGINE=probe says what it could do"),
    Reason(_LOAD, "SpawnFailed", "no process could be started", "look at the limits of processes and memory"),
    Reason(_LOAD, "WorkerCrashed", "its process died; another one is started", "offgrid logs MODEL"),
    Reason(_LOAD, "OutOfMemory", "the kernel killed its process for memory; it is tried again after a minute", "lower "
           "server.memory, context or parallel"),
    Reason(_LOAD, "WorkerHung", "its process made no progress; another one is started", "offgrid logs MODEL"),
    Reason(_LOAD, "CrashLoop", "it died too often", "edit the model, or offgrid retry MODEL"),
    Reason("Sandboxed", "Confined", "its worker has given up all that it does not need"),
    Reason("Sandboxed", "Partial", "its worker could not give up all of it", "see docs/sandbox.md for kernels"),
    Reason("UpToDate", "Current", "the hub has nothing newer"),
    Reason("UpToDate", "Fixed", "it is declared as what it is"),
    Reason("UpToDate", "NotChecked", "nobody has looked yet", "offgrid outdated"),
    Reason("UpToDate", "Manual", "`updates: manual`: nobody looks by itself", "offgrid outdated"),
    Reason("UpToDate", "NotVerified", "what is pinned is not here yet"),
    Reason("UpToDate", "CheckFailed", "the hub could not be asked; it is asked again"),
    Reason("UpToDate", "UpdateRejected", "the hub has another file, which did not become Ready", "wait for another, or "
           "offgrid update MODEL"),
    Reason("UpToDate", "UpdateAvailable", "the hub has another file", "offgrid update MODEL"),
    Reason("jobs", "BadBundle", "it is no bundle, or can not be written", "see the message"),
    Reason("jobs", "BadHandover", "what was handed over is not what was said", "use offgrid of the same version"),
    Reason("jobs", "BadOffer", "what was said of files makes no sense", "use offgrid of the same version"),
    Reason("jobs", "BadName", "the address has no name of a GGUF file", "give another address"),
    Reason("jobs", "NobodyCame", "nobody handed the files over"),
    Reason("jobs", "NameTaken", "another file is kept by that name", "offgrid rm it first"),
    Reason("jobs", "NeedsCopy", "it can not be linked here", "use --copy"),
    Reason("jobs", "Superseded", "what was declared changed meanwhile", "try again"),
    Reason("gc", "Unreferenced", "nothing has needed it for `store.grace`"),
    Reason("gc", "Ownerless", "a part of a download that nobody goes on with"),
    Reason("gc", "Old", "it was put away more than a day ago"),
    Reason("gc", "NoBlob", "a note about a file that is gone"),
    Reason("gc", "NothingDeclared", "nothing is declared, so that nothing goes", "`allow_empty: true`"),
    Reason("gc", "NotAFile", "a folder or a link", "look at it"),
    Reason("gc", "Recent", "it was put away less than a day ago"),
    Reason("gc", "Grace", "nothing needs it, but not for long enough"),
    Reason("gc", "Declared", "a model needs it"),
    Reason("gc", "Kept", "it was pulled", "offgrid rm"),
    Reason("gc", "Adopted", "it was adopted", "offgrid rm"),
    Reason("gc", "OriginUnknown", "nobody knows whose it is"),
    Reason("gc", "Gone", "it is gone already"),
)  # fmt: skip
BY_WORD: Final[Mapping[str, Reason]] = MappingProxyType({one.word: one for one in REASONS})


def reference() -> str:
    """`docs/reasons.md`."""
    parts = [
        "# Reasons\n\nGenerated: `make schema`. Each condition, event and failed job has one of these words; programs "
        "may match them. The message beside it says the rest.\n"
    ]
    for where, group in groupby(REASONS, lambda one: one.where):
        parts.append(f"\n## {where}\n\n| Reason | What it means | What to do |\n| --- | --- | --- |\n")
        parts.extend(f"| `{one.word}` | {one.meaning} | {one.do} |\n" for one in group)
    return "".join(parts)
