"""Replays recorded HTTP transcripts against a running server (tests/vectors/http/README.md).

A topic is run once, in order, on an empty store; each step gives a list of what differs. Steps in
which ours is meant to differ stand in tests/vectors/differences.toml with our answer.
"""

import base64
import hashlib
import http.client
import io
import json
import re
import socket
import threading
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from peatkeep.server.waiting import MAX_WAIT_S
from tests.waiting import GUARD_S

from .running import RunningServer

VECTORS = Path(__file__).parent.parent / "vectors"
DIFFERENCES = VECTORS / "differences.toml"
PATIENCE_S = 60
PLACEHOLDER = re.compile(r"\{\{([A-Z0-9_]+)\}\}")

Json = dict[str, object]


@dataclass(frozen=True)
class Answer:
    """What came back. headers: lower-case names; of repeated ones the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool
    seconds: float


def topics() -> list[str]:
    """The replay files by name."""
    return sorted(
        path.stem
        for path in (VECTORS / "http").glob("*.json")
        if "steps" in json.loads(path.read_text("utf-8"))
    )


def read_topic(topic: str) -> Json:
    document: Json = json.loads((VECTORS / "http" / f"{topic}.json").read_text("utf-8"))
    return document


def differences() -> dict[tuple[str, str], Json]:
    """Our answers by topic and step."""
    text = DIFFERENCES.read_text("utf-8") if DIFFERENCES.exists() else ""
    return {(entry["topic"], entry["step"]): entry for entry in tomllib.loads(text).get("http", [])}


# -- making requests ------------------------------------------------------------------------------


def body_bytes(body: Json | None) -> bytes:
    """The bytes that a `body` object stands for."""
    if body is None:
        return b""
    if "text" in body:
        return str(body["text"]).encode("utf-8")
    if "base64" in body:
        return base64.b64decode(str(body["base64"]))
    if "repeat" in body:
        return str(body["repeat"]).encode() * int(str(body["count"]))
    if "multipart_one" in body:
        return _multipart([body["multipart_one"]], str(body["boundary"]))
    if "multipart_many" in body:
        parts = body["multipart_many"]
        assert isinstance(parts, list)
        return _multipart(parts, str(body["boundary"]))
    if "form_repeat" in body:
        return _form_repeat(body)
    if "form_json_padded" in body:
        return _form_json_padded(body["form_json_padded"])
    raise ValueError(f"unknown kind of body: {sorted(body)}")


def _multipart(parts: list[object], boundary: str) -> bytes:
    pieces = []
    for part in parts:
        assert isinstance(part, dict)
        name = part.get("name")
        head = part.get("headers") or (
            f'Content-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n"
        )
        content = part["repeat"].encode() * part["count"]
        pieces.append(f"--{boundary}\r\n{head}\r\n".encode() + content + b"\r\n")
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def _form_repeat(body: Json) -> bytes:
    form = body["form_repeat"]
    assert isinstance(form, dict)
    text = str(form.get("prefix", ""))
    for number in range(form["from"], form["to"] + 1):
        ref = "sha224-" + hashlib.sha224(str(number).encode()).hexdigest()
        text += f"&blob{number}={ref}"
    suffix = body.get("suffix", form.get("suffix", ""))
    return (text + str(suffix)).encode()


def _form_json_padded(form: object) -> bytes:
    assert isinstance(form, dict)
    value = form.get("prefix", "") + form["repeat"] * form["count"] + form.get("suffix", "")
    return f"{form.get('param', 'json')}={quote(value, safe='')}".encode()


def send(server: RunningServer, request: Json, values: Mapping[str, str]) -> Answer:
    """Send one request on its own connection."""
    path = filled(str(request["path"]), values)
    headers = request.get("headers") or {}
    assert isinstance(headers, dict)
    body = request.get("body")
    assert body is None or isinstance(body, dict)
    data = body_bytes(body)
    if body is not None and "text" in body:
        data = filled(data.decode("utf-8"), values).encode("utf-8")
    connection = http.client.HTTPConnection(server.host, timeout=PATIENCE_S)
    started = time.monotonic()
    try:
        method = str(request["method"])
        has_host = any(name.lower() == "host" for name in headers)
        connection.putrequest(method, path, skip_host=has_host, skip_accept_encoding=True)
        is_chunked = False
        for name, value in headers.items():
            connection.putheader(name, filled(value, values))
            is_chunked |= name.lower() == "transfer-encoding"
        if not is_chunked and (body is not None or method in ("POST", "PUT")):
            connection.putheader("Content-Length", str(len(data)))
        _send_body(connection, data, is_chunked)
        response = connection.getresponse()
        try:
            received, is_cut = response.read(), False
        except http.client.IncompleteRead as error:
            received, is_cut = error.partial, True
        found = {name.lower(): value for name, value in response.getheaders()}
        seconds = time.monotonic() - started
        return Answer(response.status, found, received, is_cut, seconds)
    finally:
        connection.close()


def _send_body(connection: http.client.HTTPConnection, data: bytes, is_chunked: bool) -> None:
    connection.endheaders()
    try:
        if not is_chunked:
            connection.send(data)
            return
        for start in range(0, len(data), 65536):
            piece = data[start : start + 65536]
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.send(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        # The server may answer and close before it has read everything: the answer counts.
        assert isinstance(connection.sock, socket.socket)


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its placeholders replaced by values."""
    return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


# -- comparing ------------------------------------------------------------------------------------


def fits(expected: str, found: str) -> bool:
    """Whether the texts are equal, each placeholder standing for any text."""
    pieces = [re.escape(piece) for piece in PLACEHOLDER.split(expected)[::2]]
    return re.fullmatch(".*".join(pieces), found, re.DOTALL) is not None


def json_fits(expected: object, found: object, *, ordered: bool) -> bool:
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(
            json_fits(value, found[key], ordered=ordered) for key, value in expected.items()
        )
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return False
        if ordered:
            return all(json_fits(a, b, ordered=True) for a, b in zip(expected, found, strict=True))
        left = list(found)
        for item in expected:
            same = [other for other in left if json_fits(item, other, ordered=False)]
            if not same:
                return False
            left.remove(same[0])
        return True
    if isinstance(expected, str) and isinstance(found, str):
        return fits(expected, found)
    return type(expected) is type(found) and expected == found


def compare(expected: Json, match: str, answer: Answer, get_length: int | None) -> list[str]:
    """What differs. get_length: of a HEAD step, the length of our own answer to GET."""
    if match == "none":
        return []
    problems = []
    if answer.status != expected["status"]:
        problems.append(f"status {answer.status}, expected {expected['status']}")
    body = expected.get("body")
    headers = expected.get("headers") or {}
    assert isinstance(headers, dict)
    assert body is None or isinstance(body, dict)
    for name, value in headers.items():
        found = answer.headers.get(name.lower(), "")
        if name.lower() == "content-length" and not fits(value, found):
            if get_length is not None:
                ours = get_length
            elif match.startswith("json") or (body and PLACEHOLDER.search(str(body.get("text")))):
                ours = len(answer.body)
            else:
                ours = -1
            if found == str(ours):
                continue
        if not fits(value, found):
            problems.append(f"{name}: {found!r}, expected {value!r}")
    if body is not None and not problems:
        problems += _compare_body(body, match, answer)
    if expected.get("truncated_body") and not answer.is_cut:
        problems.append("the body is whole, expected a cut one")
    return problems


def _compare_body(body: Json, match: str, answer: Answer) -> list[str]:
    data = answer.body
    text = data.decode("utf-8", "replace")
    if match.startswith("json"):
        try:
            found = json.loads(data)
        except ValueError:
            return [f"no JSON: {text[:300]!r}"]
        if not json_fits(json.loads(str(body["text"])), found, ordered=match == "json"):
            return [f"JSON {text[:800]}, expected {str(body['text'])[:800]}"]
        return []
    if "zip" in body:
        return _compare_zip(body["zip"], data)
    problems = []
    if "starts_with" in body and not text.startswith(str(body["starts_with"])):
        problems.append(f"starts with {text[:80]!r}")
    if "ends_with" in body and not text.endswith(str(body["ends_with"])):
        problems.append(f"ends with {text[-80:]!r}")
    if "json_has" in body and str(body["json_has"]) not in json.loads(data):
        problems.append(f"JSON lacks {body['json_has']}")
    if match == "exact":
        problems += _compare_exactly(body, data, text)
    return problems


def _compare_exactly(body: Json, data: bytes, text: str) -> list[str]:
    if "text" in body and not fits(str(body["text"]), text):
        return [f"body {text[:500]!r}, expected {str(body['text'])[:500]!r}"]
    if "base64" in body and data != base64.b64decode(str(body["base64"])):
        return [f"body {data[:200]!r}, expected other bytes"]
    if "sha224" in body and hashlib.sha224(data).hexdigest() != body["sha224"]:
        return [f"body of {len(data)} bytes has another digest"]
    return []


def _compare_zip(expected: object, data: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = [
            {
                "name": entry.filename,
                "size": entry.file_size,
                "method": entry.compress_type,
                "mode": oct(entry.external_attr >> 16),
                "date": list(entry.date_time),
                "text": archive.read(entry).decode("latin-1"),
            }
            for entry in archive.infolist()
        ]
    if json_fits(expected, found, ordered=False):
        return []
    return [f"zip {found}, expected {expected}"]


# -- running a topic ------------------------------------------------------------------------------


class Replay:
    """One topic against one server."""

    def __init__(self, document: Json, server: RunningServer) -> None:
        self._topic = str(document["topic"]) if "topic" in document else ""
        self._server = server
        self._steps = document["steps"]
        self._differences = differences()
        hostname = server.host.partition(":")[0]
        self._values = {"HOST": server.host, "HOSTNAME": hostname, "DATA": str(server.data)}
        self._values["SECRING"] = str(server.secring)

    def run(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each step's id and what differs in it."""
        assert isinstance(self._steps, list)
        for step in self._steps:
            yield step["id"], self._run(step)

    def _run(self, step: Json) -> list[str]:
        ours = self._differences.get((self._topic, str(step["id"])))
        expected = ours["answer"] if ours else step["response"]
        match = str(ours.get("match", "exact") if ours else step["match"])
        assert isinstance(expected, dict)
        # Background work took the reference so long; on a busy machine it may take longer.
        deadline = time.monotonic() + (GUARD_S if "wait_before_seconds" in step else 0)
        while True:
            answer, problems = self._once(step, expected, match, ours)
            if not problems or time.monotonic() >= deadline:
                break
            time.sleep(0.1)
        self._capture(step, answer)
        return problems

    def _once(
        self, step: Json, expected: Json, match: str, ours: Json | None
    ) -> tuple[Answer | None, list[str]]:
        request = step["request"]
        timing = (ours or step).get("timing", step.get("timing"))
        if timing == "returns_early":
            # So long that on a busy machine, too, nothing but the blob ends the wait.
            longer = f"maxwaitsec={MAX_WAIT_S}"
            request = json.loads(re.sub(r"maxwaitsec=\d+", longer, json.dumps(request)))
        assert isinstance(request, dict)
        later = _Concurrent(self._server, step.get("concurrent"), self._values)
        try:
            answer = send(self._server, request, self._values)
        except (OSError, http.client.HTTPException) as error:
            return None, [f"no answer: {error!r}"]
        finally:
            later.join()
        get_length = None
        if request["method"] == "HEAD" and "javascript" in answer.headers.get("content-type", ""):
            again = send(self._server, {**request, "method": "GET"}, self._values)
            get_length = len(again.body)
        problems = compare(expected, match, answer, get_length)
        return answer, problems + later.problems + _timing(timing, request, answer)

    def _capture(self, step: Json, answer: Answer | None) -> None:
        if answer is None:
            return
        wanted = step.get("capture") or {}
        assert isinstance(wanted, dict)
        for name, pointer in wanted.items():
            value = json.loads(answer.body)
            for key in pointer.strip("/").split("/"):
                value = value[key]
            self._values[name] = str(value)
        patterns = step.get("capture_regex") or {}
        assert isinstance(patterns, dict)
        for name, pattern in patterns.items():
            found = re.search(pattern, answer.body.decode("utf-8", "replace"))
            if found is not None:
                self._values[name] = found[1]


class _Concurrent:
    """A second request, sent a given time after the first."""

    def __init__(self, server: RunningServer, spec: object, values: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self._timer: threading.Timer | None = None
        if isinstance(spec, dict):
            self._timer = threading.Timer(spec["after_seconds"], self._send, [server, spec, values])
            self._timer.start()

    def _send(self, server: RunningServer, spec: Json, values: Mapping[str, str]) -> None:
        request = spec["request"]
        assert isinstance(request, dict)
        headers = {**server.headers, **request.get("headers", {})}
        answer = send(server, {**request, "headers": headers}, values)
        if answer.status >= 300:
            self.problems.append(f"the concurrent request got {answer.status}")

    def join(self) -> None:
        if self._timer is not None:
            self._timer.join()


def _timing(timing: object, request: Json, answer: Answer) -> list[str]:
    """Whether a long poll was left when it should have been."""
    if timing is None:
        return []
    asked = re.search(r"maxwaitsec=(\d+)", json.dumps(request))
    is_full = asked is not None and answer.seconds >= float(asked[1]) * 0.95
    if is_full != (timing == "waits_full_time"):
        return [f"answered after {answer.seconds:.2f} s, expected: {timing}"]
    return []


def environment(topic: str) -> dict[str, str]:
    """What the recording server had in its environment, by the README of the vectors."""
    surroundings = {"USER": "tester"}
    if topic in ("auth-localhost", "auth-userpass-localhost", "auth-devauth"):
        surroundings["PK_IN_CONTAINER"] = "1"
    if topic == "importer":
        surroundings["CAMLI_DISABLE_IMPORTERS"] = "true"
    return surroundings
