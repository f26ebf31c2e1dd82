"""Where the frames of a websocket end (RFC 6455, 5.2). Pure."""

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

WHOLE_BINARY: Final = 0x82
"""The first byte of a binary message in one frame: FIN, and the opcode."""

ROOM_BYTES: Final = 64 * 1024
"""A message of which so much is still to come is read to where it stays: one copy less."""

_FIN: Final = 0x80
_MASKED: Final = 0x80
_KEY_BYTES: Final = 4
_OPCODE: Final = 0x0F
_FIRST_CONTROL: Final = 8
_MEDIUM, _LARGE = 126, 127  # the length follows in 2 or 8 bytes
_MEDIUM_LENGTH: Final = struct.Struct(">H")
_LARGE_LENGTH: Final = struct.Struct(">Q")


class Cut(NamedTuple):
    """A whole message, or (is_message False) bytes of some other frame, its head included."""

    is_message: bool
    data: bytes | bytearray | memoryview


Unmask = Callable[[bytes | bytearray | memoryview, bytes], bytes]
"""Gives the bytes of a message that came under a key."""


class Cutter:
    """Takes whole binary messages out of what a peer sends; all else is for a parser.

    message_bytes: a longer message is left to the parser, which refuses it by its head. unmask:
    for what a client sends; a server masks nothing.
    """

    def __init__(self, message_bytes: int, unmask: Unmask | None = None) -> None:
        self._message_bytes = message_bytes
        self._unmask = unmask
        self._key = b""
        self._head = b""  # of a frame, where it was cut off
        self._left_bytes = 0  # of the frame that has begun
        self._message: bytearray | None = None  # what has come of it, if that is one
        self._room: memoryview | None = None  # of a large one: what is still to come
        self._is_fragmented = False

    def cut(self, data: bytes | memoryview) -> Iterator[Cut]:
        """Yield what these bytes bring, in order. `data` may be overwritten when all is taken."""
        view = memoryview(self._head + data if self._head else data)
        self._head = b""
        while len(view):
            if not self._left_bytes:
                head_bytes = self._begin(view)
                if not head_bytes:
                    self._head = bytes(view)
                    return
                if self._message is not None:
                    view = view[head_bytes:]
            piece = view[: self._left_bytes]
            view = view[self._left_bytes :]
            self._left_bytes -= len(piece)
            message = self._message
            if message is None:
                yield Cut(False, piece)
            elif self._room is not None:
                self._room[: len(piece)] = piece
                self._room = self._room[len(piece) :]
                if not self._left_bytes:
                    self._room = None
                    yield Cut(True, message)
            elif not message and not self._left_bytes:
                yield Cut(True, self._unmask(piece, self._key) if self._unmask else bytes(piece))
            else:
                message += piece
                if not self._left_bytes:
                    yield Cut(True, self._unmask(message, self._key) if self._unmask else message)

    @property
    def room(self) -> memoryview | None:
        """Where the rest of a large message belongs: who reads it there tells `filled`."""
        return self._room

    def filled(self, size_bytes: int) -> bytearray | None:
        """So much was put into the `room`; returns the message when it is whole."""
        assert self._room is not None
        self._left_bytes -= size_bytes
        self._room = self._room[size_bytes:] if self._left_bytes else None
        return None if self._left_bytes else self._message

    def _begin(self, view: memoryview) -> int:
        """A frame begins: returns the length of its head; 0 where that is cut off."""
        if len(view) < 2:
            return 0
        first, size, head_bytes = view[0], view[1] & ~_MASKED, 2
        is_masked = view[1] >= _MASKED
        if size in (_MEDIUM, _LARGE):  # else it has one byte
            length = _MEDIUM_LENGTH if size == _MEDIUM else _LARGE_LENGTH
            head_bytes += length.size
            if len(view) < head_bytes:
                return 0
            (size,) = length.unpack_from(view, 2)
        if is_masked and self._unmask is not None:
            head_bytes += _KEY_BYTES
            if len(view) < head_bytes:
                return 0
            self._key = bytes(view[head_bytes - _KEY_BYTES : head_bytes])
        is_whole = first == WHOLE_BINARY and not self._is_fragmented
        if first & _OPCODE < _FIRST_CONTROL:
            self._is_fragmented = not first & _FIN
        is_right = is_masked is (self._unmask is not None)
        if is_whole and is_right and 0 < size <= self._message_bytes:
            self._left_bytes = size
            if self._unmask is None and size - (len(view) - head_bytes) >= ROOM_BYTES:
                # Nobody else unmasks it: it can be read to where it stays.
                self._message = bytearray(size)
                self._room = memoryview(self._message)
            else:
                self._message = bytearray()
        else:
            self._message = None
            self._left_bytes = head_bytes + size
        return head_bytes
