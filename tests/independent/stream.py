"""Decodes frames of the stream, written from pkg/blobserver/STREAM.md alone; standard library only.

`python -m tests.independent.stream FILE` prints a captured session: a JSON list of
`{"from": "client" | "server", "hex": message}`.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

NAMES = {
    0x01: "HELLO",
    0x02: "PING",
    0x03: "PONG",
    0x04: "GOODBYE",
    0x05: "DATA",
    0x10: "PUT",
    0x11: "STAT",
    0x12: "FETCH",
    0x13: "FILE",
    0x14: "SUBSCRIBE",
    0x15: "STOP",
    0x16: "CREDIT",
    0x20: "ACK",
    0x21: "ERROR",
    0x22: "SIZES",
    0x23: "BLOB",
    0x24: "HOLE",
    0x25: "DONE",
    0x26: "ARRIVED",
    0x27: "CHANGED",
}
FLAGS = {
    "DATA": 0x0C,
    "PUT": 0x37,
    "STAT": 0x03,
    "FETCH": 0x03,
    "FILE": 0xA3,
    "CREDIT": 0x03,
    "SIZES": 0x04,
    "BLOB": 0xF7,
    "DONE": 0x08,
}
WITH_CLASS = {"PUT", "STAT", "FETCH", "FILE", "CREDIT", "BLOB"}
REF = re.compile(r"[a-z0-9]+-[0-9a-f]+")

Meaning = dict[str, object]


class Bytes:
    """A body, read from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        if count > len(self.data):
            raise ValueError("cut off")
        head, self.data = self.data[:count], self.data[count:]
        return head

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def rest(self) -> bytes:
        return self.take(len(self.data))

    def text(self) -> str:
        return self.rest().decode()

    def ref(self, count: int | None = None) -> str:
        text = (self.rest() if count is None else self.take(count)).decode("ascii")
        if text and (not REF.fullmatch(text) or len(text) > 512):
            raise ValueError(f"no ref: {text}")
        return text


def decode(message: bytes) -> Iterator[Meaning]:
    """The frames of a message. Raises ValueError where it breaks the format."""
    rest = Bytes(message)
    if not message:
        raise ValueError("empty")
    while rest.data:
        name = NAMES.get(rest.number(1))
        if name is None:
            raise ValueError("unknown type")
        flags, request, length = rest.number(1), rest.number(4), rest.number(4)
        if flags & ~FLAGS.get(name, 0) or (name in WITH_CLASS and flags & 3 == 3):
            raise ValueError("unknown flags")
        body = Bytes(rest.take(length))
        meaning: Meaning = {"type": name, "request": request}
        if name in WITH_CLASS:
            meaning["class"] = flags & 3
        meaning |= read_body(name, flags, body)
        if body.data:
            raise ValueError("bytes left over")
        yield meaning


def read_body(name: str, flags: int, body: Bytes) -> Meaning:
    if name in ("PUT", "BLOB", "DATA"):
        return read_blob(name, flags, body)
    if name == "HELLO":
        return read_hello(body)
    if name in ("PING", "PONG"):
        return {"bytes": body.take(8).hex()}
    if name == "GOODBYE":
        return {"code": body.number(2), "text": body.text()}
    if name in ("STAT", "STOP"):
        text = body.rest().decode("ascii")
        return {"refs": [Bytes(line.encode()).ref() for line in text.split("\n")] if text else []}
    if name == "FETCH":
        return {"items": [read_item(line) for line in body.text().split("\n")]}
    if name == "FILE":
        offset, length = body.number(8), body.number(8)
        return {
            "offset": offset,
            "length": None if length == 2**64 - 1 else length,
            "ref": body.ref(),
            "names": bool(flags & 0x20),
            "schema": bool(flags & 0x80),
        }
    if name == "SUBSCRIBE":
        return {"topics": body.number(1), "cursor": body.rest().hex()}
    if name == "CREDIT":
        return {"limit": body.number(8)}
    return read_answer(name, flags, body)


def read_answer(name: str, flags: int, body: Bytes) -> Meaning:
    if name == "ERROR":
        code, item = body.number(2), body.number(4)
        return {"code": code, "item": None if item == 2**32 - 1 else item, "text": body.text()}
    if name == "HOLE":
        return {"offset": body.number(8), "length": body.number(8)}
    if name == "DONE":
        return {"stopped": bool(flags & 0x08)}
    if name in ("ARRIVED", "CHANGED"):
        cursor = body.take(body.number(2)).hex()
        if name == "CHANGED":
            return {"cursor": cursor, "change": json.loads(body.text())}
        lines = [line.split(" ") for line in body.text().split("\n") if line]
        return {"cursor": cursor, "blobs": [[ref, int(size)] for ref, size in lines]}
    numbers = []
    while body.data:
        numbers.append(body.number(4))
    if name == "ACK":
        return {"requests": numbers}
    sizes = [None if number == 2**32 - 1 else number for number in numbers]
    return {"sizes": sizes, "last": bool(flags & 0x04)}


def read_hello(body: Bytes) -> Meaning:
    if body.take(4) != b"pkst":
        raise ValueError("no hello of this protocol")
    meaning: Meaning = {"lowest": body.number(2), "highest": body.number(2)}
    for field in ("features", "window", "message_bytes", "requests", "items"):
        meaning[field] = body.number(4)
    meaning["heartbeat_s"] = body.number(2)
    meaning["name"] = body.take(body.number(2)).decode()
    body.rest()  # of a later version
    return meaning


def read_blob(name: str, flags: int, body: Bytes) -> Meaning:
    meaning: Meaning = {"end": bool(flags & 0x04)}
    if name == "DATA":
        meaning["abort"] = bool(flags & 0x08)
        meaning["piece"] = body.rest().hex()
        return meaning
    meaning["zstd"] = bool(flags & 0x10)
    if name == "PUT":
        meaning["no_rush"] = bool(flags & 0x20)
        meaning["size"] = body.number(4)
        meaning["ref"] = body.ref(body.number(2))
    else:
        meaning["names"] = bool(flags & 0x20)
        meaning["schema"] = bool(flags & 0x80)
        meaning["item"] = body.number(4)
        meaning["size"] = body.number(4)
        length = body.number(2)
        place = [body.number(8), body.number(4), body.number(4)] if flags & 0x40 else None
        meaning["place"] = place
        meaning["ref"] = body.ref(length)
    meaning["piece"] = body.rest().hex()
    return meaning


def read_item(line: str) -> list[object]:
    parts = line.split(" ")
    if len(parts) not in (1, 3):
        raise ValueError(f"no item: {line}")
    return [Bytes(parts[0].encode()).ref(), *map(int, parts[1:])]


def session(messages: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, Meaning]]:
    """The frames of a captured session: (direction, frame) in order. Raises ValueError."""
    for direction, message in messages:
        for meaning in decode(message):
            yield direction, meaning


def main() -> None:
    captured = json.loads(Path(sys.argv[1]).read_text())
    for direction, meaning in session((one["from"], bytes.fromhex(one["hex"])) for one in captured):
        print(direction, json.dumps(meaning))


if __name__ == "__main__":
    main()
