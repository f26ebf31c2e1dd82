"""Every backend and combinator against a dictionary, with more steps than their own tests take.

An operation is a step of the state machine (a batch, a removal, a look, a reopening, a power cut).
The planted bug is a store that forgets removals.
"""

import random
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from peatkeep.blobserver.storage import Storage
from tests.blobserver.blobpacked.test_model import BlobPackedModel
from tests.blobserver.broken import ForgetsRemoves
from tests.blobserver.diskpacked.test_model import DiskPackedModel
from tests.blobserver.test_combinators_model import MODELS
from tests.blobserver.test_model import LocalDiskModel, Model
from tests.reliability.verdict import Verdict

EVERY: dict[str, type[Model]] = {
    model.__name__.removesuffix("Model").lower(): model
    for model in (LocalDiskModel, DiskPackedModel, BlobPackedModel, *MODELS)
}
STEPS = 40
EXAMPLES = 2
"""Of one seed; then the next."""


class Forgetful(Model):
    def open(self) -> Storage:
        return ForgetsRemoves()


def counted(model: type[Model], counts: Counter[str]) -> type[Model]:
    """The model, which counts the checks that hypothesis makes after each step."""

    class Counted(model):  # type: ignore[valid-type, misc]
        def check_invariants(self, *given: object, **named: object) -> None:
            counts[model.__name__] += 1
            super().check_invariants(*given, **named)

    Counted.__name__ = model.__name__
    return Counted


def try_model(model: type[Model], seed: int, counts: Counter[str]) -> str:
    """What went wrong in a few runs, "" if nothing."""
    machine = seeded(seed)(counted(model, counts))
    limits = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=limits)
    except Exception as error:
        return f"{model.__name__}, seed {seed}: {type(error).__name__}: {error}"[:500]
    return ""


def run(folder: Path, seed: int, seconds: float, most: int = 10**9) -> Verdict:
    """Every model in turn, until time is up or so many operations were made."""
    began = time.monotonic()
    counts: Counter[str] = Counter()
    problems: list[str] = []
    dice = random.Random(seed)
    for model in cycle(EVERY.values()):
        if counts.total() >= most or (counts and time.monotonic() - began > seconds):
            break
        problem = try_model(model, dice.randrange(1 << 30), counts)
        if problem:
            problems.append(problem)
    notes = " ".join(f"{name.removesuffix('Model')}={n}" for name, n in sorted(counts.items()))
    caught = any(try_model(Forgetful, number, Counter()) for number in range(50))
    found = tuple(problems[:20])
    return Verdict("model", counts.total(), len(problems), caught, notes, found)
