"""The line "index" of the reliability programme: rows do not depend on how blobs arrive.

Random stores of awkward blobs arrive in random order: twice, in batches, without something that
they need, with crashes in between. The rows must equal those of a reindex byte for byte.
"""

import random
from collections.abc import Callable
from functools import cache

from peatkeep.blob import Ref
from peatkeep.sorted.kv import KeyValue
from peatkeep.sorted.memory import MemoryKeyValue
from tests.index import make
from tests.index.corpus import Blob, Row, World

POOLS = 5


@cache
def pool(number: int) -> tuple[Blob, ...]:
    """About 60 blobs that need, name and delete each other; the same for the same number."""
    chance = random.Random(number)
    blobs = [make.key("owner"), make.key("other")]
    blobs += _files(chance)
    blobs += _claims(chance, [ref for ref, _ in blobs])
    return tuple(dict(blobs).items())


def _files(chance: random.Random) -> list[Blob]:
    chunks = [make.blob(chance.randbytes(chance.choice((0, 1, 40, 3000)))) for _ in range(7)]
    inner = [make.bytes_blob([make.part(chunk) for chunk in chunks[:2]])]
    size = len(chunks[0][1]) + len(chunks[1][1])
    inner.append(make.bytes_blob([make.via(inner[0], size), make.part(chunks[2])]))
    size += len(chunks[2][1])
    files = [
        make.file([make.part(chunk)], f"{index}.txt") for index, chunk in enumerate(chunks[:3])
    ]
    files += [
        make.file([make.part(chunk) for chunk in chunks], "all"),
        make.file([make.via(inner[1], size), {"size": 5}], "nested"),
        make.file([make.part(chunks[3], len(chunks[3][1]) + 1), make.part(chunks[4])], "short"),
        make.file([None, make.part(chunks[5])], "null"),
        make.file([make.via(files[0], len(chunks[0][1]))], "file in file"),
    ]
    sets = [make.static_set([ref for ref, _ in files[:3]]), make.static_set([chunks[0][0]])]
    sets.append(make.static_set(merge=[ref for ref, _ in sets]))
    sets.append(make.static_set(merge=[sets[0][0], files[0][0]]))
    folders = [make.directory(ref) for ref, _ in sets]
    folders.append(make.directory(files[0][0], "no set"))
    return chunks + inner + files + sets + folders


def _claims(chance: random.Random, others: list[Ref]) -> list[Blob]:
    nodes = [make.permanode(f"p{number}") for number in range(4)]
    odd = make.blob(nodes[0][1].replace(b'"p0"', b'"p9"'))
    targets = [ref for ref, _ in nodes]
    claims = []
    for _ in range(10):
        attribute = chance.choice(("tag", "title", "camliMember", "camliPath:a/b", "x"))
        value = chance.choice([*targets, *others[:3], "word", "", "é |%"])
        kind = chance.choice(("set-attribute", "add-attribute", "del-attribute", "strange"))
        day = chance.randrange(-20_000, 5)
        claims.append(make.claim(chance.choice(targets), attribute, value, day, kind))
    deletes: list[Blob] = []
    for number in range(12):
        known = [*targets, *[ref for ref, _ in claims + deletes], others[4], odd[0]]
        by = chance.choice(("owner", "other"))
        deletes.append(make.delete(chance.choice(known[-14:]), number, by))
    return [*nodes, odd, *claims, *deletes]


def arrival(seed: int, rows: KeyValue, restart: Callable[[World], World]) -> World:
    """One random history of a store."""
    chance = random.Random(seed)
    blobs = list(pool(seed % POOLS))
    chance.shuffle(blobs)
    del blobs[: chance.choice((0, 0, 1, 5))]
    blobs += chance.sample(blobs, chance.randrange(8))
    if chance.random() < 0.5:
        chance.shuffle(blobs)
    world = World(rows)
    while blobs:
        count = chance.choice((1, 1, 2, 5, 20))
        page, blobs = blobs[:count], blobs[count:]
        if chance.random() < 0.06:
            world.blobs.receive_many(page)  # stored; and then the process ends
            world = restart(world)
        else:
            world.add(page, batch=count)
            if chance.random() < 0.06:
                world = restart(world)
    return world


def compared(world: World) -> list[tuple[str, Row]]:
    """The difference between the rows and those of a reindex of the same store."""
    fresh = World(MemoryKeyValue(), world.blobs)
    fresh.index.reindex()
    got, wanted = _settled(world), _settled(fresh)
    return [("+", row) for row in sorted(got - wanted)] + [
        ("-", row) for row in sorted(wanted - got)
    ]


def _settled(world: World) -> set[Row]:
    """All rows but notes of what arrived already, which stay while the blob waits for more."""
    there = {ref for ref, _ in world.blobs.enumerate()}
    return {
        row
        for row in [*world.rows(), *world.own_rows()]
        if not (row[0].startswith(b"missing|") and row[0].decode().split("|")[2] in there)
    }


def forgetful(world: World) -> World:
    """The planted bug, Perkeep's own: a restart forgets which delete claims wait for what."""
    for key, value in list(world.kv.prefixed(b"pk|needs|")):
        if value == b"target":
            world.kv.delete(key)
    # As after a clean end, so that nothing is compared at the start.
    world.kv.delete(b"pk|state")
    return world.restarted()
