"""The one error tree. Every error that peatkeep raises on purpose is in it.

    StoreError
    ├── NotFound       the thing is not there                       404  ENOENT
    ├── Corrupt        bytes do not match their ref, or their form  500  EIO
    ├── Invalid        the caller's input is wrong                  400  EINVAL
    │   └── TooLarge   over a documented limit                      413  EFBIG
    ├── Forbidden      not allowed by rights or by configuration    403  EACCES
    ├── ReadOnly       the store takes no writes (any more)         503  EROFS
    ├── Unsupported    this backend or build can't do that          501  ENOTSUP
    ├── Unavailable    a retry may help                             503  EAGAIN
    └── ConfigError    a configuration can't be used                 -   EINVAL

HTTP, command line and FUSE map the tree once each, in one table.
"""


class StoreError(Exception):
    """Base of all errors raised on purpose.

    operation: what was tried, a verb (`"fetch"`). subject: on what (a ref, a path, a key).
    reason: why it failed, where the class alone doesn't say it.
    """

    def __init__(self, operation: str, subject: object, reason: str = "") -> None:
        super().__init__(f"{operation} {subject}" + (f": {reason}" if reason else ""))
        self.operation = operation
        self.subject = subject
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, object, str]]:
        # Errors cross process borders (reindex workers): rebuild from the three parts.
        return type(self), (self.operation, self.subject, self.reason)


class NotFound(StoreError):
    """The thing asked for is not there."""


class Corrupt(StoreError):
    """Bytes do not match their ref, or break the format that they claim."""


class Invalid(StoreError):
    """The caller's input is wrong; the same call can't succeed."""


class TooLarge(Invalid):
    """The input is over a documented limit."""


class Forbidden(StoreError):
    """Rights or configuration do not allow it."""


class ReadOnly(StoreError):
    """The store takes no writes, by nature or since a sync of it failed."""


class Unsupported(StoreError):
    """This backend or this installation can't do it."""


class Unavailable(StoreError):
    """A service or device did not answer; a retry may help."""


class ConfigError(StoreError):
    """A configuration can't be used. The subject names file and key."""
