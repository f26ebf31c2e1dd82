"""Golden frames, in both directions; and a decoder that was written from the page alone."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from peatkeep.blobserver.wire import ClientMachine, Hello, ProtocolViolation, ServerMachine
from tests.blobserver.wire.meanings import build, meanings
from tests.independent import stream as independent

pytestmark = pytest.mark.vectors("stream")

FOLDER = Path(__file__).resolve().parents[2] / "vectors" / "stream"
FRAMES = json.loads((FOLDER / "frames.json").read_text())
BAD = json.loads((FOLDER / "bad.json").read_text())
SESSION = json.loads((FOLDER / "session.json").read_text())


def recorder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record", FOLDER / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", FRAMES, ids=lambda case: case["name"])
def test_a_frame_is_written_as_recorded(case: dict) -> None:
    assert build(case["means"]).hex() == case["hex"]


@pytest.mark.parametrize("case", FRAMES, ids=lambda case: case["name"])
def test_a_frame_is_read_as_recorded(case: dict) -> None:
    assert meanings(bytes.fromhex(case["hex"])) == [case["means"]]


@pytest.mark.parametrize("case", FRAMES, ids=lambda case: case["name"])
def test_the_second_decoder_reads_the_same(case: dict) -> None:
    assert list(independent.decode(bytes.fromhex(case["hex"]))) == [case["means"]]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case["name"])
def test_a_broken_message_closes_with_its_code(case: dict) -> None:
    server = ServerMachine(Hello(), 0.0)
    client = ClientMachine(0.0)
    hello = client.next_message()
    assert hello is not None
    server.receive(hello, 0.0)
    with pytest.raises(ProtocolViolation) as caught:
        server.receive(bytes.fromhex(case["hex"]), 0.0)
    assert caught.value.close_code == case["close_code"]


@pytest.mark.parametrize("number", range(len(SESSION)))
def test_a_message_of_the_session_is_read_as_recorded(number: int) -> None:
    message = bytes.fromhex(SESSION[number]["hex"])
    assert meanings(message) == SESSION[number]["means"]


def test_a_captured_session_decodes_by_the_page_alone() -> None:
    captured = [(one["from"], bytes.fromhex(one["hex"])) for one in SESSION]
    expected = [(one["from"], meaning) for one in SESSION for meaning in one["means"]]
    assert list(independent.session(captured)) == expected


def test_the_machines_still_make_the_recorded_session() -> None:
    for name, content in recorder().recorded().items():
        assert json.loads(json.dumps(content)) == json.loads((FOLDER / name).read_text()), name


def test_a_server_hears_in_the_session_what_was_recorded() -> None:
    module = recorder()
    line = module.session()
    server = ServerMachine(line.server.hello, 0.0)
    heard = []
    for one in SESSION:
        if one["from"] == "client":
            heard += server.receive(bytes.fromhex(one["hex"]), 0.0)
            # Answers free the numbers and the window, as they did.
            for event in heard:
                if type(event).__name__ == "Put" and event.request in server._puts:
                    server.ack([event.request])
    expected = json.loads((FOLDER / "events.json").read_text())["server"]
    assert [module._shown(event) for event in heard] == expected
