"""Records the golden frames: `python tests/vectors/stream/record.py`, from the root of the project.

The same every time. Run it again only when STREAM.md changes, and look at the difference.
"""

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from peatkeep.blob import Ref, SizedRef  # noqa: E402
from peatkeep.blobserver.wire import Hello, Item, Place, events, frames  # noqa: E402
from tests.blobserver.wire.meanings import build, meanings  # noqa: E402
from tests.blobserver.wire.simulation import Line  # noqa: E402

A, B = (f"sha224-{hashlib.sha224(text).hexdigest()}" for text in (b"a", b"bb"))
SHA1 = f"sha1-{hashlib.sha1(b'a').hexdigest()}"
BLOB = {"request": 9, "class": 1, "zstd": False, "names": False, "schema": False, "place": None}
WHOLE_A = {"end": True, "item": 0, "size": 1, "ref": "", "piece": "61"}
PUT = {"request": 7, "class": 2, "zstd": False, "no_rush": False}

FRAMES: list[tuple[str, str, dict]] = [
    ("client hello", "client", {"type": "HELLO", "request": 0, "lowest": 1, "highest": 1}
        | {"features": 1, "window": 1048576, "message_bytes": 1048576, "requests": 64}
        | {"items": 1000, "heartbeat_s": 20, "name": ""}),
    ("server hello with a name", "server", {"type": "HELLO", "request": 0, "lowest": 1}
        | {"highest": 1, "features": 7, "window": 4194304, "message_bytes": 1048576}
        | {"requests": 100, "items": 2000, "heartbeat_s": 30, "name": "Türe"}),
    ("ping", "client", {"type": "PING", "request": 0, "bytes": "0000000000000001"}),
    ("pong", "server", {"type": "PONG", "request": 0, "bytes": "0000000000000001"}),
    ("goodbye", "server", {"type": "GOODBYE", "request": 0, "code": 0, "text": "restart"}),
    ("put in one piece", "client", {"type": "PUT", **PUT, "end": True, "size": 1, "ref": A, "piece": "61"}),
    ("put of the empty blob", "client", {"type": "PUT", **PUT, "end": True, "size": 0, "ref": Ref.of(b""), "piece": ""}),
    ("put without rush, first piece", "client", {"type": "PUT", **PUT, "no_rush": True, "end": False, "size": 2, "ref": B, "piece": "62"}),
    ("last piece", "client", {"type": "DATA", "request": 7, "end": True, "abort": False, "piece": "62"}),
    ("piece in the middle", "server", {"type": "DATA", "request": 9, "end": False, "abort": False, "piece": "626262"}),
    ("given up", "client", {"type": "DATA", "request": 7, "end": True, "abort": True, "piece": ""}),
    ("put with zstd", "client", {"type": "PUT", **PUT, "class": 0, "zstd": True, "end": True, "size": 400,
        "ref": Ref.of(b"a" * 400), "piece": "28b52ffd6090004d000010616101008b2ac002"}),
    ("put under sha1", "client", {"type": "PUT", **PUT, "end": True, "size": 1, "ref": SHA1, "piece": "61"}),
    ("stat of two", "client", {"type": "STAT", "request": 8, "class": 0, "refs": [A, B]}),
    ("fetch of a blob and a range", "client", {"type": "FETCH", "request": 9, "class": 1, "items": [[A], [B, 1, 1]]}),
    ("file to its end", "client", {"type": "FILE", "request": 10, "class": 1, "offset": 5, "length": None,
        "ref": A, "names": False, "schema": False}),
    ("names of a part of a file", "client", {"type": "FILE", "request": 10, "class": 2, "offset": 2**40,
        "length": 2**33, "ref": A, "names": True, "schema": True}),
    ("subscribe from now", "client", {"type": "SUBSCRIBE", "request": 11, "topics": 1, "cursor": ""}),
    ("subscribe from a cursor", "client", {"type": "SUBSCRIBE", "request": 11, "topics": 3, "cursor": "00ff"}),
    ("stop all", "client", {"type": "STOP", "request": 0, "refs": []}),
    ("stop one request", "client", {"type": "STOP", "request": 9, "refs": []}),
    ("stop two items", "client", {"type": "STOP", "request": 9, "refs": [A, B]}),
    ("credit", "client", {"type": "CREDIT", "request": 0, "class": 2, "limit": 2**33}),
    ("ack of three", "server", {"type": "ACK", "request": 0, "requests": [7, 12, 4294967295]}),
    ("error of an upload", "server", {"type": "ERROR", "request": 7, "code": 422, "item": None, "text": "wrong digest"}),
    ("error of an item", "server", {"type": "ERROR", "request": 9, "code": 404, "item": 3, "text": "ä"}),
    ("sizes, more to come", "server", {"type": "SIZES", "request": 8, "sizes": [1, None], "last": False}),
    ("last sizes", "server", {"type": "SIZES", "request": 8, "sizes": [16777216, 0], "last": True}),
    ("blob of a fetch", "server", {"type": "BLOB", **BLOB, **WHOLE_A}),
    ("chunk of a file", "server", {"type": "BLOB", **BLOB, **WHOLE_A, "size": 4, "ref": A, "piece": "61616161",
        "place": [2**40, 1, 3]}),
    ("schema blob of a file", "server", {"type": "BLOB", **BLOB, **WHOLE_A, "ref": A, "schema": True}),
    ("name of a chunk", "server", {"type": "BLOB", **BLOB, **WHOLE_A, "ref": A, "names": True, "piece": "",
        "place": [0, 0, 1]}),
    ("hole", "server", {"type": "HOLE", "request": 10, "offset": 10, "length": 2**41}),
    ("done", "server", {"type": "DONE", "request": 9, "stopped": False}),
    ("done, stopped", "server", {"type": "DONE", "request": 9, "stopped": True}),
    ("cursor of now", "server", {"type": "ARRIVED", "request": 11, "cursor": "00ff", "blobs": []}),
    ("two blobs arrived", "server", {"type": "ARRIVED", "request": 11, "cursor": "01", "blobs": [[A, 1], [B, 2]]}),
    ("a change", "server", {"type": "CHANGED", "request": 11, "cursor": "02", "change": {"permanode": A}}),
]  # fmt: skip

GOOD_STAT = build(FRAMES[13][2])
BAD: list[tuple[str, bytes, int]] = [
    ("an empty message", b"", 4400),
    ("a header that is cut off", GOOD_STAT[:9], 4400),
    ("a body that is cut off", GOOD_STAT[:-1], 4400),
    ("a length that lies", GOOD_STAT[:6] + b"\xff\xff\xff\xff" + GOOD_STAT[10:], 4400),
    ("an unknown type", b"\x7f" + bytes(9), 4400),
    ("an unknown flag", frames.frame(frames.STAT, 0x80, 8, A.encode()), 4400),
    ("class 3", frames.frame(frames.STAT, 0x03, 8, A.encode()), 4400),
    ("no refs", frames.frame(frames.STAT, 0, 8), 4400),
    ("a ref that is none", frames.frame(frames.STAT, 0, 8, b"sha224-xyz"), 4400),
    ("a ref that is not ASCII", frames.frame(frames.STAT, 0, 8, b"sha1-\xff"), 4400),
    ("an empty line", frames.frame(frames.STAT, 0, 8, A.encode() + b"\n"), 4400),
    ("too many refs", frames.frame(frames.STAT, 0, 8, b"\n".join([b"sha1-"] * 1001)), 4413),
    ("an item of two words", frames.frame(frames.FETCH, 0, 8, A.encode() + b" 1"), 4400),
    ("a negative offset", frames.frame(frames.FETCH, 0, 8, A.encode() + b" -1 2"), 4400),
    ("a short FILE", frames.frame(frames.FILE, 0, 8, bytes(15)), 4400),
    ("request 0", frames.frame(frames.STAT, 0, 0, A.encode()), 4409),
    ("an answer from the client", frames.frame(frames.DONE, 0, 8), 4409),
    ("DATA of nothing", frames.frame(frames.DATA, frames.END, 8, b"a"), 4409),
    ("a second HELLO", build(FRAMES[0][2]), 4409),
    ("fewer bytes than the size", frames.put_head(7, frames.END, A, 2, 1) + b"a", 4400),
    ("more bytes than the size", frames.put_head(7, 0, A, 1, 2) + b"aa", 4400),
    ("zstd that is not smaller", frames.put_head(7, frames.END | frames.ZSTD, A, 1, 1) + b"a", 4400),
    ("a blob over 16 MiB", frames.put_head(7, 0, A, 16777217, 1) + b"a", 4413),
    ("a PUT whose ref is cut off", frames.frame(frames.PUT, frames.END, 7, bytes(5) + b"\x40"), 4400),
    ("topics that are none", frames.frame(frames.SUBSCRIBE, 0, 8, b"\x04"), 4400),
    ("a credit that falls", frames.frame(frames.CREDIT, 0, 0, bytes(8)), 4409),
    ("a credit of 7 bytes", frames.frame(frames.CREDIT, 0, 0, bytes(7)), 4400),
    ("a ping of 9 bytes", frames.frame(frames.PING, 0, 0, bytes(9)), 4400),
]  # fmt: skip


def session() -> Line:
    """One life of a connection, in small messages, so that blobs come in pieces."""
    line = Line(Hello(features=7, window=1048576, name="golden"))
    client, server = line.client, line.server
    big, small = bytes(range(256)) * 5, b"small"
    refs = [Ref.of(big), Ref.of(small)]

    def settle() -> None:
        moved = True
        while moved:
            moved = False
            for end in ("client", "server"):
                while line.send(end, 1024):
                    line.deliver(end)
                    moved = True

    settle()
    slow = client.put(refs[0], big, no_rush=True)
    quick = client.put(refs[1], small, priority=0)
    wrong = client.put(Ref.of(b"other"), small)
    settle()
    server.ack([quick, slow])
    server.error(wrong, 422, "the bytes do not match the ref")
    asked = client.stat([*refs, Ref.of(b"absent")])
    settle()
    server.sizes(asked, [len(big), len(small), None])
    many = client.fetch([refs[0], Item(refs[0], 256, 3), refs[1], Ref.of(b"absent")], priority=2)
    settle()
    server.send_blob(many, 0, big)
    line.send("server", 1024)
    line.deliver("server")
    urgent = client.fetch([refs[1]], priority=0)
    line.send("client")
    line.deliver("client")
    server.send_blob(urgent, 0, small)
    server.done(urgent)
    server.send_blob(many, 1, big[256:259])
    server.send_blob(many, 2, small)
    server.error(many, 404, "not here", 3)
    server.done(many)
    settle()
    file = client.read_file(refs[1], 1, with_schema=True)
    feed = client.subscribe(3)
    settle()
    server.arrived(feed, b"1", [])
    server.send_blob(file, 0, b"{}", ref=Ref.of(b"{}"), is_schema=True)
    server.send_blob(file, 1, small, ref=refs[1], place=Place(1, 1, 4))
    server.send_hole(file, 5, 10)
    server.done(file)
    server.arrived(feed, b"2", [SizedRef(refs[1], 5)])
    server.changed(feed, b"3", b'{"permanode": null}')
    stopped = client.fetch([refs[0]])
    settle()
    server.send_blob(stopped, 0, big)
    line.send("server", 1024)
    line.deliver("server")
    client.stop(stopped)
    settle()
    gone = client.put(refs[0], big)
    line.send("client", 1024)
    line.deliver("client")
    client.withdraw(gone)
    settle()
    client.goodbye(0, "all done")
    settle()
    assert client.is_finished and server.is_finished
    return line


def recorded() -> dict[str, object]:
    """The files of this folder: name and content."""
    line = session()
    return {
        "frames.json": [
            {"name": name, "from": end, "hex": build(meaning).hex(), "means": meaning}
            for name, end, meaning in FRAMES
        ],
        "bad.json": [
            {"name": name, "hex": raw.hex(), "close_code": code} for name, raw, code in BAD
        ],
        "session.json": [
            {"from": end, "hex": message.hex(), "means": meanings(message)}
            for end, message in line.wire
        ],
        "events.json": {
            "server": [_shown(event) for event in line.server_events],
            "client": [_shown(event) for event in line.client_events],
        },
    }


def _shown(event: events.Event) -> dict[str, object]:
    """An event as JSON: its fields by name, bytes as hex."""
    fields = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in event._asdict().items()
    }
    return {"event": type(event).__name__} | json.loads(json.dumps(fields))


def main() -> None:
    for name, content in recorded().items():
        (HERE / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
