"""Permanodes, claims and shares: signed here, stored on the server."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..blob import Ref
from ..errors import ConfigError, StoreError
from ..schema import claims
from ..schema.keyring import Ask, SecretKey, find_key, read_ring, unlock_by_asking
from ..schema.signing import Signer
from .caches import UploadCache
from .config import ClientConfig

if TYPE_CHECKING:
    from .uploader import UploadTarget

Members = Mapping[str, object]


def load_signer(config: ClientConfig, ask: Ask) -> Signer:
    """The signer that a configuration names: the key `identity` of its ring. Raises ConfigError.

    Without `identity` the ring must hold a single key. ask: gets the passphrase of a locked one;
    what it raises is raised, and so is WrongPassphrase.
    """
    key = _configured_key(config)
    if key.is_locked:
        unlock_by_asking(key, ask)
    return Signer(key)


def _configured_key(config: ClientConfig) -> SecretKey:
    path = config.secret_ring
    if path is None:
        raise ConfigError("sign", "claims", "no key ring is configured; see `pk-put init`")
    try:
        keys = read_ring(path.read_bytes())
    except FileNotFoundError:
        reason = "it does not exist; `pk-put init --newkey` makes one"
        raise ConfigError("read", f"key ring {path}", reason) from None
    except OSError as error:
        raise ConfigError("read", f"key ring {path}", str(error)) from None
    if config.identity:
        try:
            return find_key(keys, config.identity)
        except StoreError as error:
            raise ConfigError("sign as", config.identity, f"{path}: {error.reason}") from None
    if len(keys) != 1:
        reason = f"{path} holds {len(keys)} keys and no `identity` says which"
        raise ConfigError("sign", "claims", reason)
    return keys[0]


class Author:
    """Makes signed blobs and stores them in one request each time, with the key before them.

    Blobs that the cache has are not sent. Safe to use from many threads.
    """

    def __init__(
        self,
        target: "UploadTarget",
        cache: UploadCache,
        signer: Signer,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._target = target
        self._cache = cache
        self.signer = signer
        self._clock_ns = clock_ns

    def publish(self, members: Sequence[Members], at_ns: int | None = None) -> list[Ref]:
        """Sign and store; the refs in order. at_ns: the date of all of them, by default now."""
        signed = [self._signed(each, at_ns) for each in members]
        self.store(signed)
        return [ref for ref, _ in signed]

    def permanode(
        self, attributes: Sequence[tuple[str, str, str]] = (), *, key: str = "", at_ns: int = 0
    ) -> tuple[Ref, list[Ref]]:
        """Store a new permanode with claims about it; its ref and theirs.

        attributes: kind of claim (`set-attribute`, `add-attribute`), name, value.
        key: makes a planned permanode, which needs `at_ns`, its date.
        """
        if key:
            node = self._signed(claims.planned_permanode(key), at_ns)
        else:
            node = self._signed(claims.random_permanode(), None)
        signed = [self._signed(self._claim(node[0], each), None) for each in attributes]
        self.store([node, *signed])
        return node[0], [ref for ref, _ in signed]

    def file_node(
        self, whole: Ref, file: Ref, mtime_ns: int, tags: Sequence[str] = ()
    ) -> tuple[Ref, list[Ref]]:
        """Store the permanode of a file's contents, dated 1970, and claims dated by its mtime.

        The same file gives the same blobs again.
        """
        node = self._signed(claims.planned_permanode(whole), 0)
        attributes = [(claims.SET_ATTRIBUTE, "camliContent", str(file))]
        attributes += [(claims.ADD_ATTRIBUTE, "tag", tag) for tag in tags]
        signed = [self._signed(self._claim(node[0], each), mtime_ns) for each in attributes]
        self.store([node, *signed])
        return node[0], [ref for ref, _ in signed]

    def _claim(self, permanode: Ref, attribute: tuple[str, str, str]) -> Members:
        kind, name, value = attribute
        make = {
            claims.SET_ATTRIBUTE: claims.set_attribute,
            claims.ADD_ATTRIBUTE: claims.add_attribute,
            claims.DEL_ATTRIBUTE: claims.del_attribute,
        }[kind]
        return make(permanode, name, value)

    def _signed(self, members: Members, at_ns: int | None) -> tuple[Ref, bytes]:
        text = self.signer.sign_members(members, self._clock_ns() if at_ns is None else at_ns)
        return Ref.of(text), text

    def store(self, signed: Sequence[tuple[Ref, bytes]]) -> None:
        """Store signed blobs and, before them, the key. Raises why the server refused one."""
        blobs = [(self.signer.ref, self.signer.public_text), *signed]
        unknown = [(ref, data) for ref, data in blobs if not self._cache.has(ref)]
        if not unknown:
            return
        outcome = self._target.upload(unknown)
        self._cache.remember_blobs(found.ref for found in outcome.received)
        if outcome.refused:
            raise outcome.refused[0][1]


def share_url(server: str, share_root: str, share: Ref) -> str:
    """The link to hand out; "" where the server has no share handler."""
    if not share_root:
        return ""
    from urllib.parse import urljoin

    return urljoin(f"{server}/", share_root) + share
