"""Frames as JSON, by way of our own encoder and decoder: the meanings in tests/vectors/stream."""

import json

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.wire import frames
from peatkeep.blobserver.wire.frames import CLASS, Frame, Hello, Item, Place

KINDS = {
    "HELLO": frames.HELLO,
    "PING": frames.PING,
    "PONG": frames.PONG,
    "GOODBYE": frames.GOODBYE,
    "DATA": frames.DATA,
    "PUT": frames.PUT,
    "STAT": frames.STAT,
    "FETCH": frames.FETCH,
    "FILE": frames.FILE,
    "SUBSCRIBE": frames.SUBSCRIBE,
    "STOP": frames.STOP,
    "CREDIT": frames.CREDIT,
    "ACK": frames.ACK,
    "ERROR": frames.ERROR,
    "SIZES": frames.SIZES,
    "BLOB": frames.BLOB,
    "HOLE": frames.HOLE,
    "DONE": frames.DONE,
    "ARRIVED": frames.ARRIVED,
    "CHANGED": frames.CHANGED,
}
KIND_NAMES = {kind: name for name, kind in KINDS.items()}
MOST = 1000


def build(m: dict) -> bytes:
    """The frame that means this."""
    name, kind, request = m["type"], KINDS[m["type"]], m["request"]
    flags = m.get("class", 0)
    for field, bit in (
        ("end", frames.END),
        ("last", frames.END),
        ("abort", frames.ABORT),
        ("stopped", frames.ABORT),
        ("zstd", frames.ZSTD),
        ("no_rush", frames.NO_RUSH),
        ("names", frames.NAMES),
        ("place", frames.PLACED),
        ("schema", frames.SCHEMA),
    ):
        flags |= bit if m.get(field) else 0
    piece = bytes.fromhex(m.get("piece", ""))
    if name == "PUT":
        return frames.put_head(request, flags, m["ref"], m["size"], len(piece)) + piece
    if name == "BLOB":
        place = Place(*m["place"]) if m["place"] else None
        return (
            frames.blob_head(request, flags, m["item"], m["size"], len(piece), m["ref"], place)
            + piece
        )
    return frames.frame(kind, flags, request, _body(name, m, piece))


def _body(name: str, m: dict, piece: bytes) -> bytes:
    match name:
        case "HELLO":
            return frames.hello_body(Hello(*(m[field] for field in Hello._fields)))
        case "PING" | "PONG":
            return bytes.fromhex(m["bytes"])
        case "GOODBYE":
            return frames.goodbye_body(m["code"], m["text"])
        case "DATA":
            return piece
        case "STAT" | "STOP":
            return frames.lines_body(m["refs"])
        case "FETCH":
            return frames.items_body([Item(Ref(one[0]), *one[1:]) for one in m["items"]])
        case "FILE":
            length = frames.TO_THE_END if m["length"] is None else m["length"]
            return frames.file_body(m["ref"], m["offset"], length)
        case "SUBSCRIBE":
            return frames.subscribe_body(m["topics"], bytes.fromhex(m["cursor"]))
        case "CREDIT":
            return frames.number_body(m["limit"])
        case "ACK":
            return frames.numbers_body(m["requests"])
        case "ERROR":
            item = frames.WHOLE if m["item"] is None else m["item"]
            return frames.error_body(m["code"], m["text"], item)
        case "SIZES":
            sizes = [frames.WHOLE if size is None else size for size in m["sizes"]]
            return frames.numbers_body(sizes)
        case "HOLE":
            return frames.hole_body(m["offset"], m["length"])
        case "ARRIVED":
            lines = frames.arrived_lines([SizedRef(Ref(ref), size) for ref, size in m["blobs"]])
            return frames.event_body(bytes.fromhex(m["cursor"]), lines)
        case "CHANGED":
            return frames.event_body(bytes.fromhex(m["cursor"]), json.dumps(m["change"]).encode())
    return b""


def meanings(message: bytes) -> list[dict]:
    """What the frames of a message mean. Raises ProtocolViolation."""
    return [_meaning(one) for one in frames.decode(message)]


def _meaning(one: Frame) -> dict:
    name, flags = KIND_NAMES[one.kind], one.flags
    m: dict = {"type": name, "request": one.request}
    if frames.ALLOWED_FLAGS[one.kind] & CLASS:
        m["class"] = flags & CLASS
    return m | _fields(name, flags, one.body)


def _fields(name: str, flags: int, body: memoryview) -> dict:
    end, abort = bool(flags & frames.END), bool(flags & frames.ABORT)
    names, schema = bool(flags & frames.NAMES), bool(flags & frames.SCHEMA)
    zstd = bool(flags & frames.ZSTD)
    match name:
        case "HELLO":
            return frames.parse_hello(body)._asdict()
        case "PING" | "PONG":
            return {"bytes": frames.parse_number(body).to_bytes(8).hex()}
        case "GOODBYE":
            return dict(zip(("code", "text"), frames.parse_goodbye(body), strict=True))
        case "DATA":
            return {"end": end, "abort": abort, "piece": bytes(body).hex()}
        case "PUT":
            put = frames.parse_put(body)
            return {"end": end, "zstd": zstd, "no_rush": bool(flags & frames.NO_RUSH)} | {
                "size": put.size,
                "ref": str(put.ref),
                "piece": bytes(put.piece).hex(),
            }
        case "BLOB":
            blob = frames.parse_blob(flags, body)
            return {"end": end, "zstd": zstd, "names": names, "schema": schema} | {
                "item": blob.item,
                "size": blob.size,
                "place": list(blob.place) if blob.place else None,
                "ref": str(blob.ref),
                "piece": bytes(blob.piece).hex(),
            }
        case "STAT":
            return {"refs": list(map(str, frames.parse_refs(body, MOST)))}
        case "STOP":
            return {"refs": list(map(str, frames.parse_refs(body, MOST))) if body else []}
        case "FETCH":
            items = frames.parse_items(body, MOST)
            return {
                "items": [[str(i[0])] if i.length is None else [str(i[0]), *i[1:]] for i in items]
            }
        case "FILE":
            offset, length, ref = frames.parse_file(body)
            return {
                "offset": offset,
                "length": None if length == frames.TO_THE_END else length,
                "ref": str(ref),
                "names": names,
                "schema": schema,
            }
        case "SUBSCRIBE":
            topics, cursor = frames.parse_subscribe(body)
            return {"topics": topics, "cursor": cursor.hex()}
        case "CREDIT":
            return {"limit": frames.parse_number(body)}
    return _answer_fields(name, flags, body)


def _answer_fields(name: str, flags: int, body: memoryview) -> dict:
    match name:
        case "ACK":
            return {"requests": list(frames.parse_numbers(body))}
        case "ERROR":
            code, item, text = frames.parse_error(body)
            return {"code": code, "item": None if item == frames.WHOLE else item, "text": text}
        case "SIZES":
            sizes = [None if n == frames.WHOLE else n for n in frames.parse_numbers(body)]
            return {"sizes": sizes, "last": bool(flags & frames.END)}
        case "HOLE":
            return dict(zip(("offset", "length"), frames.parse_hole(body), strict=True))
        case "DONE":
            return {"stopped": bool(flags & frames.ABORT)}
    cursor, payload = frames.parse_event(body)
    if name == "CHANGED":
        return {"cursor": cursor.hex(), "change": json.loads(bytes(payload))}
    blobs = [[str(ref), size] for ref, size in frames.parse_arrived(payload)]
    return {"cursor": cursor.hex(), "blobs": blobs}
