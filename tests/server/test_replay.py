"""Every recorded HTTP transcript, replayed against our server."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .replay import Replay, differences, environment, read_topic, topics
from .running import running_server

NOT_YET = frozenset({"importer", "ui-misc", "ui-thumbnail"})
"""Topics whose handlers come with their own issues."""

TOPICS = [topic for topic in topics() if topic not in NOT_YET]

STEPS = [
    pytest.param(topic, step["id"], marks=pytest.mark.xdist_group(f"http-{topic}"))
    for topic in TOPICS
    for step in read_topic(topic)["steps"]  # type: ignore[attr-defined]
]


@pytest.fixture(scope="session")
def outcome_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, list[str]]]:
    """Runs a topic when its first step is asked for: what differs, by step."""
    outcomes: dict[str, dict[str, list[str]]] = {}

    def run(topic: str) -> dict[str, list[str]]:
        if topic not in outcomes:
            document = read_topic(topic)
            folder: Path = tmp_path_factory.mktemp(topic)
            with running_server(
                folder, environ=environment(topic), **server_config(document, folder)
            ) as server:
                outcomes[topic] = dict(Replay(document, server).run())
        return outcomes[topic]

    return run


def server_config(document: dict[str, object], folder: Path) -> dict[str, object]:
    """The topic's configuration with our folders in it; keys that it lacks are dropped."""
    config = document["server_config"]
    assert isinstance(config, dict)
    ours: dict[str, object] = dict.fromkeys(("shareHandler", "ownerName", "levelDB", "blobPath"))
    for key, value in config.items():
        ours[key] = value.replace("{{DATA}}", str(folder)) if isinstance(value, str) else value
    del ours["listen"], ours["identitySecretRing"]
    return ours


@pytest.mark.vectors("http")
@pytest.mark.parametrize(("topic", "step"), STEPS)
def test_a_recorded_step_is_answered_alike(
    topic: str, step: str, outcome_of: Callable[[str], dict[str, list[str]]]
) -> None:
    assert outcome_of(topic)[step] == []


def test_each_difference_names_a_step_a_mark_and_a_test_that_exist() -> None:
    root = Path(__file__).parent.parent.parent
    for (topic, step), entry in differences().items():
        steps = read_topic(topic)["steps"]
        assert isinstance(steps, list)
        assert step in [known["id"] for known in steps], (topic, step)
        assert str(entry["mark"]) in ("[S]", "[Q]", "defect"), (topic, step)
        assert entry["section"], (topic, step)
        path, _, name = str(entry["test"]).partition("::")
        assert f"def {name}(" in (root / path).read_text("utf-8"), (topic, step)
