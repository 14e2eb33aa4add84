"""Decides which spans are recorded, as ``OTEL_TRACES_SAMPLER`` names it.

Source: https://opentelemetry.io/docs/specs/otel/trace/sdk/#built-in-samplers
"""

from __future__ import annotations

from vm_webapp.tracing.configuration import Tracing
from vm_webapp.tracing.spans import Sampler
from vm_webapp.tracing.trace_context import TraceContext

LOW_BITS = 2**64


def sampler_of(tracing: Tracing) -> Sampler:
    """Return the sampler that the settings name."""
    follows_parent = tracing.sampler.startswith("parentbased_")
    rule = tracing.sampler.removeprefix("parentbased_")
    # Every process decides alike about a trace, for the decision is made of its id. So do OpenTelemetry's own.
    bound = {"always_on": LOW_BITS, "always_off": 0}.get(rule, round(tracing.ratio * LOW_BITS))

    def samples(parent: TraceContext | None, trace_id: int) -> bool:
        if parent is not None and follows_parent:
            return parent.sampled
        return trace_id % LOW_BITS < bound

    return samples
