"""The generators of the golden inputs, and stores that tests fill by hand."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.errors import Corrupt, NotFound
from peatkeep.schema.text import encode

GENERATORS = Path(__file__).parent.parent / "vectors" / "schema" / "generators.py"


@cache
def _generators() -> Callable[[dict[str, object]], bytes]:
    spec = importlib.util.spec_from_file_location("vector_generators", GENERATORS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def make() -> Callable[[dict[str, object]], bytes]:
    """The bytes that a golden file describes by a generator."""
    return _generators()


class Blobs(dict[Ref, bytes]):
    """A store as a dict that counts the rounds of fetching."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[Ref] = []
        self.rounds = 0

    def sink(self, ref: Ref, data: bytes) -> None:
        self[ref] = data

    def put(self, **members: object) -> Ref:
        """Store a schema blob."""
        data = encode(members)
        ref = Ref.of(data)
        self[ref] = data
        return ref

    def put_bytes(self, data: bytes) -> Ref:
        ref = Ref.of(data)
        self[ref] = data
        return ref

    def fetch(self, ref: Ref) -> bytes:
        self.rounds += 1
        return self._one(ref)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
        self.rounds += 1
        for ref in refs:
            try:
                yield ref, self._one(ref)
            except NotFound as error:
                yield ref, error

    def _one(self, ref: Ref) -> bytes:
        self.fetched.append(ref)
        if ref not in self:
            raise NotFound("fetch", ref)
        return self[ref]


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()
