"""The handlers of a low-level configuration: which arguments each takes, and which are prefixes.

The table is that of server/config/README.md, "Low level".
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .high_keys import hint, is_comment


class Shape(NamedTuple):
    """What a handler takes. `any_args`: its arguments are not ours to judge."""

    required: frozenset[str]
    optional: frozenset[str]
    prefixes: frozenset[str]  # the arguments that name another handler, or a list of them
    any_args: bool = False


def _shape(text: str) -> Shape:
    """Read one line of the table: `name` required, `name?` optional, `@name` a prefix."""
    words = text.split()
    names = {word: word.strip("@?") for word in words}
    return Shape(
        frozenset(name for word, name in names.items() if not word.endswith("?")),
        frozenset(name for word, name in names.items() if word.endswith("?")),
        frozenset(name for word, name in names.items() if word.startswith("@")),
    )


_ANY: Final = Shape(frozenset(), frozenset(), frozenset(), any_args=True)
_LIMITS = "maxRequests? retries? timeoutSeconds?"
_S3 = "aws_access_key aws_secret_access_key bucket hostname? aws_region? cacheSize?"

SHAPES: Final[dict[str, Shape]] = {
    handler: _shape(line)
    for handler, line in {
        "root": "@blobRoot? @searchRoot? @jsonSignRoot? @helpRoot? @statusRoot? @shareRoot?"
        " ownerName? stealth?",
        "search": "@index owner slurpToMemory?",
        "jsonsign": "keyId secretRing? @publicKeyDest?",
        "ui": "@cache? scaledImage? sourceRoot? maxResizeBytes?",
        "share": "@blobRoot @index",
        "sync": "@from @to queue? idle? fullSyncOnStart? blockingFullSyncOnStart? copierPoolSize?"
        " validateOnStart? hourlyCompareBytes?",
        "status": "",
        "help": "",
        "app": "program prefix appConfig? listen? backendURL? apiHost? serverListen?"
        " serverBaseURL?",
        "storage-filesystem": "path",
        "storage-localdisk": "path",
        "storage-memory": "",
        "storage-diskpacked": "path maxFileSize? metaIndex?",
        "storage-blobpacked": "@smallBlobs @largeBlobs metaIndex keepGoing?",
        "storage-index": "@blobSource storage reindex? keepGoing?",
        "storage-replica": "@backends @readBackends? minWritesForSuccess? queue?",
        "storage-cond": "@write @read @remove?",
        "storage-shard": "@backends",
        "storage-union": "@subsets",
        "storage-overlay": "@lower @upper deleted?",
        "storage-migrate": "@from @to removed leaveDamaged?",
        "storage-proxycache": "@origin @cache maxCacheBytes? eviction? accounting?",
        "storage-namespace": "inventory @storage",
        "storage-placed": "@backends policy? copies? weights? tiers? folders? reserveBytes?",
        "storage-readonly": "@storage",
        "storage-retry": "@storage attempts?",
        "storage-limited": "@storage bytesPerSecond? operationsPerSecond?",
        "storage-faulty": "@storage effect? operations? percent? seed?",
        "storage-encrypt": "I_AGREE keyFile @blobs @meta metaIndex memory?",
        "storage-remote": "url auth skipStartupCheck? trustedCert?",
        "storage-s3": f"{_S3} skipStartupCheck? endpoint? pathStyle? {_LIMITS}",
        "storage-b2": f"{_S3} skipStartupCheck? endpoint? pathStyle? {_LIMITS}",
        "storage-googlecloudstorage": f"bucket auth cacheSize? endpoint? {_LIMITS}",
        "storage-googledrive": "parent_id auth",
    }.items()
} | dict.fromkeys(
    ("importer", "storage-azure", "storage-azurestorage", "storage-sftp", "storage-mongo"),
    _ANY,
)


def problems(handler: str, args: Mapping[str, object]) -> list[str]:
    """Say what is wrong with a handler's type and the names of its arguments, one line each.

    Storage types that are not in the table may come from other packages: what opens them judges.
    """
    if handler not in SHAPES:
        if handler.startswith("storage-"):
            return []
        return [f'there is no handler "{handler}"{hint(handler, SHAPES)}']
    shape = SHAPES[handler]
    if shape.any_args:
        return []
    known = shape.required | shape.optional
    unknown = [name for name in args if name not in known and not is_comment(name)]
    missing = sorted(shape.required - args.keys())
    return [f'unknown key "{name}"{hint(name, known)}' for name in unknown] + [
        f'key "{name}" is missing' for name in missing
    ]


def references(handler: str, args: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield (argument, prefix) for each other handler that this one uses; empty ones left out.

    A prefix may be of a wrong type: the caller says so.
    """
    for name in SHAPES.get(handler, _ANY).prefixes & args.keys():
        yield from _flat(name, args[name])


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(name, item)
    elif isinstance(value, Mapping):
        # `write` of cond: {"if": …, "then": prefix, "else": prefix}
        for branch in ("then", "else"):
            yield from _flat(f"{name}.{branch}", value.get(branch))
    elif value:
        yield name, value
