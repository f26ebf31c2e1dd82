"""What combinators over several stores have in common."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final, TypeVar

from ..blob import Ref, SizedRef
from ..errors import Corrupt, NotFound, StoreError, Unsupported
from .storage import Generation, Storage, StreamedBlob

_THREADS_PER_STORE: Final = 4
"""Calls that wait for one store at the same time; more wait their turn."""

_STREAM_COUNT: Final = 200
_STREAM_SIZE: Final = 8 * 1024 * 1024
"""Blobs and bytes that a stream asks for at a time."""

T = TypeVar("T")
Found = tuple[Ref, bytes | NotFound | Corrupt]


class FanOut:
    """Runs calls to several stores at the same time."""

    def __init__(self, stores: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(_THREADS_PER_STORE * stores, thread_name_prefix=name)

    def attempt(self, works: Sequence[Callable[[], T]]) -> list[T | StoreError]:
        """Run all and wait for all. A call that failed is answered with its error."""
        if not works:
            return []
        *others, last = [_attempting(work) for work in works]
        answers = [self._threads.submit(work) for work in others]
        here = last()  # a single call costs no change of thread
        return [*(answer.result() for answer in answers), here]

    def run(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """Run all and wait for all; then raise the first error, in the order given."""
        done: list[T] = []
        for answer in self.attempt(works):
            if isinstance(answer, StoreError):
                raise answer
            done.append(answer)
        return done

    def start(self, work: Callable[[], None]) -> None:
        """Run in the background; it must not raise."""
        self._threads.submit(work)

    def close(self) -> None:
        self._threads.shutdown()


def errors_in(answers: Iterable[object]) -> list[StoreError]:
    """Those of the answers of `attempt` that are errors."""
    return [answer for answer in answers if isinstance(answer, StoreError)]


def _attempting(work: Callable[[], T]) -> Callable[[], T | StoreError]:
    def attempt() -> T | StoreError:
        try:
            return work()
        except StoreError as error:
            return error

    return attempt


def fetched_side_by_side(
    refs: Iterable[Ref],
    home: Callable[[Ref], int],
    ask: Callable[[int, list[Ref]], Iterator[Found]],
) -> Iterator[Found]:
    """Yield the refs in the order asked for, each from the batch that its store is asked for.

    home: the number of the store to ask for a ref. ask: fetches a batch from a store, in order.
    """
    wanted = [(ref, home(ref)) for ref in refs]
    parts: dict[int, list[Ref]] = {}
    for ref, number in wanted:
        parts.setdefault(number, []).append(ref)
    with ExitStack() as open_answers:
        answers = {number: ask(number, part) for number, part in parts.items()}
        for answer in answers.values():
            open_answers.callback(getattr(answer, "close", lambda: None))
        for _, number in wanted:
            yield next(answers[number])


def joined_generation(stores: Sequence[Storage]) -> Generation | None:
    """The latest time and all names joined by `/`; None unless every store has a generation.

    With one that has none, what is lost there would go unnoticed.
    """
    found = [store.generation() for store in stores]
    known = [one for one in found if one is not None]
    if len(known) < len(found) or not known:
        return None
    return Generation(max(one.initialised for one in known), "/".join(one.token for one in known))


def reset_generations(stores: Sequence[Storage], owner: Storage) -> None:
    """Begin a new generation in all of them. Raises Unsupported unless each has one."""
    if joined_generation(stores) is None:
        raise Unsupported("reset generation", type(owner).__name__)
    for store in stores:
        store.reset_generation()


def streamed_by_ref(store: Storage, token: str) -> Iterator[StreamedBlob]:
    """A stream in ref order by `fetch_many`: for stores whose parts overlap.

    The token is the ref. What went away since it was listed, or is damaged, is left out.
    """
    for batch in _batches(_listed(store, token)):
        for ref, data in store.fetch_many(batch):
            if isinstance(data, bytes):
                yield StreamedBlob(ref, ref, data)


def _listed(store: Storage, token: str) -> Iterator[SizedRef]:
    if token:
        yield from store.stat([Ref(token)])
    yield from store.enumerate(token)


def _batches(listing: Iterable[SizedRef]) -> Iterator[list[Ref]]:
    batch: list[Ref] = []
    size_bytes = 0
    for ref, size in listing:
        if batch and (len(batch) >= _STREAM_COUNT or size_bytes + size > _STREAM_SIZE):
            yield batch
            batch, size_bytes = [], 0
        batch.append(ref)
        size_bytes += size
    if batch:
        yield batch
