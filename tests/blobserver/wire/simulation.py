"""Both machines and a line between them that a test drives step by step."""

from peatkeep.blob import Ref
from peatkeep.blobserver.wire import ClientMachine, Hello, ServerMachine, events, frames

MIB = 1024 * 1024
SIZES = (0, 1, 300, 70_000, 200_000, 900_000, MIB, MIB + 100_000)
BLOBS = {Ref.of(data): data for data in (bytes([n]) * size for n, size in enumerate(SIZES))}
REFS = sorted(BLOBS)
SERVER_HELLO = Hello(window=MIB)
ABSENT = Ref.of(b"never stored")


class Line:
    """Two machines, and the messages between them that have left but not come."""

    def __init__(self, hello: Hello = SERVER_HELLO) -> None:
        self.now = 0.0
        self.client = ClientMachine(self.now)
        self.server = ServerMachine(hello, self.now)
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []
        self.client_events: list[events.Event] = []
        self.server_events: list[events.Event] = []
        self.wire: list[tuple[str, bytes]] = []

    def send(self, end: str, budget_bytes: int = 1 << 30) -> bool:
        machine = self.client if end == "client" else self.server
        message = machine.next_message(budget_bytes)
        if message is None:
            return False
        assert len(message) <= machine.peer.message_bytes
        self.wire.append((end, message))
        (self.to_server if end == "client" else self.to_client).append(message)
        return True

    def deliver(self, end: str) -> list[events.Event]:
        """Let the oldest message from this end come to the other."""
        queue = self.to_server if end == "client" else self.to_client
        if not queue:
            return []
        message = queue.pop(0)
        if end == "client":
            found = self.server.receive(message, self.now)
            self.server_events += found
        else:
            found = self.client.receive(message, self.now)
            self.client_events += found
        return found

    def settle(self) -> None:
        """Move messages until none moves."""
        moved = True
        while moved:
            moved = False
            for end in ("client", "server"):
                while self.send(end):
                    moved = True
                while self.to_server or self.to_client:
                    self.deliver("client")
                    self.deliver("server")
                    moved = True

    def take(self, kind: type) -> list:
        """The events of this kind at either end, which are then forgotten."""
        found = [e for e in self.client_events + self.server_events if isinstance(e, kind)]
        self.client_events = [e for e in self.client_events if not isinstance(e, kind)]
        self.server_events = [e for e in self.server_events if not isinstance(e, kind)]
        return found


def blob_bytes(message: bytes) -> int:
    """Bytes of blobs in a message from the server."""
    return sum(
        len(frames.parse_blob(one.flags, one.body).piece)
        if one.kind == frames.BLOB
        else len(one.body)
        for one in frames.decode(message)
        if one.kind in (frames.BLOB, frames.DATA)
    )
