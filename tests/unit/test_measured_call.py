"""What a model call adds to the metrics, however it ends."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from types import SimpleNamespace
from typing import Any

import pytest

from tests.llm.assignments import an_assignment
from vm_webapp.errors import VMError
from vm_webapp.execution.measured_call import MeasuredCall
from vm_webapp.execution.metering import CallMeter
from vm_webapp.fleet.samples import collect_samples
from vm_webapp.llm.base import Completion, PartialCompletion
from vm_webapp.llm.errors import LLMTimeout
from vm_webapp.prices import parse_prices

PRICES = parse_prices('{"currency": "EUR", "models": {"*": {"prompt": 1, "completion": 10}}}')
COUNTS = ("vm_model_calls", "vm_model_tokens", "vm_model_cost")


def late() -> LLMTimeout:
    """Return the failure of a call that had sent some text."""
    error = LLMTimeout("late")
    error.partial = PartialCompletion("x" * 80, prompt_tokens=100)
    return error


def wait(ended: Completion | BaseException, *, provider: str | None, model: str) -> CallMeter:
    """Wait for a call that sends two pieces and ends like this."""
    claim: Any = SimpleNamespace(provider=provider, key="copy", workflow=SimpleNamespace(name="landing_page"))
    meter = CallMeter(PRICES)
    call = MeasuredCall(claim, meter, model, an_assignment())
    call.note_piece("")
    call.note_piece("x" * 80)
    future: Future[Completion] = Future()
    if isinstance(ended, CancelledError):
        future.cancel()
    elif isinstance(ended, BaseException):
        future.set_exception(ended)
    else:
        future.set_result(ended)
    if isinstance(ended, Completion):
        assert call.wait(future) is ended
    else:
        with pytest.raises(type(ended)):
            call.wait(future)
    return meter


def counted(model: str) -> dict[str, float]:
    """Return what was counted under a model's name: metric and further labels → number."""
    found = collect_samples()["counters"]
    names = {key: key.strip('[]"').split('","') for key in found}
    return {
        " ".join(label for label in labels if label != model): found[key]
        for key, labels in names.items()
        if labels[0] in COUNTS and model in labels
    }


@pytest.mark.parametrize(
    ("ended", "outcome", "prompt", "completion"),
    [
        pytest.param(Completion("x" * 80, "kimi", "kimi-2", 500, 50), "ok", 500, 50, id="ok"),
        pytest.param(late(), "llm_timeout", 100, 20, id="failed"),
        pytest.param(CancelledError(), "abandoned", None, 20, id="abandoned"),
        pytest.param(KeyError("a bug"), "internal_error", None, 20, id="crashed"),
    ],
)
def test_a_call_is_counted_once_with_what_it_used(
    ended: Completion | BaseException, outcome: str, prompt: int | None, completion: int
) -> None:
    model = f"model of {outcome}"
    usage = wait(ended, provider="kimi", model=model).usage()
    assert usage is not None
    assert usage.money is not None
    assert usage.prompt_tokens == prompt or prompt is None
    assert counted(model) == {
        f"vm_model_calls kimi {outcome}": 1,
        "vm_model_tokens kimi prompt": usage.prompt_tokens,
        "vm_model_tokens kimi completion": completion,
        "vm_model_cost EUR": pytest.approx(float(usage.money), abs=1e-6),
    }
    if isinstance(ended, VMError):
        assert ended.code == outcome


def test_where_no_model_is_called_nothing_is_counted() -> None:
    wait(Completion("x", "template"), provider=None, model="model of nobody")
    assert counted("model of nobody") == {}
