from peatkeep.blob import Ref
from peatkeep.schema.text import encode

from . import stored
from .running import RunningServer
from .stored import store_of

ROOT = stored.ROOT


def test_several_files_of_one_upload_each_get_a_permanode(server: RunningServer) -> None:
    storage = store_of(server)
    chunks = [b"one", b"two"]
    for chunk in chunks:
        stored.put(storage, chunk)
    blobs = [
        encode(
            {
                "camliType": "file",
                "fileName": chunk.decode(),
                "parts": [{"blobRef": Ref.of(chunk), "size": 3}],
                "unixMtime": "2020-01-02T03:04:05Z",
            }
        )
        for chunk in chunks
    ]
    before = sum(1 for _ in storage.enumerate())
    reply = server.upload(ROOT, *blobs, auth="alice:vivpass", X_Camlistore_Vivify="1")
    assert [entry["blobRef"] for entry in reply.json["received"]] == [Ref.of(b) for b in blobs]
    assert "errorText" not in reply.json
    assert sum(1 for _ in storage.enumerate()) == before + 2 + 4


def test_a_file_whose_chunk_is_missing_gets_none_and_is_received(server: RunningServer) -> None:
    part = {"blobRef": Ref.of(b"never came"), "size": 10}
    blob = encode({"camliType": "file", "fileName": "n", "parts": [part]} | MTIME)
    reply = server.upload(ROOT, blob, X_Camlistore_Vivify="1")
    assert [entry["blobRef"] for entry in reply.json["received"]] == [Ref.of(blob)]
    assert "Error vivifying blob" in reply.json["errorText"]
    assert "x-camlistore-vivified" not in reply.headers


MTIME = {"unixMtime": "2020-01-02T03:04:05Z"}
