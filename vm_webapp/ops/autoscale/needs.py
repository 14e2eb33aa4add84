"""How many workers the work of one moment needs, by Little's law, and a clause that says why."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from vm_webapp.ops.autoscale.shapes import Figures
from vm_webapp.text import plural

SPARE = 0.5
"""Slots to spare for what arrives, as a multiple of the root of those that it keeps busy: their number varies by
chance as that root does."""
CLAIM_SECONDS = 10.0
"""A stage that has been due for longer, while at least half of the slots are free, waits for something else."""
SLOTS_EACH = 32
"""Slots of a worker while none is known: the default of VM_WORKER_THREADS."""
ENDLESS = 10**9
"""More than any number of stages, slots or workers."""


@dataclass(frozen=True, slots=True)
class Need:
    """What the work needs, before any limit.

    Attributes:
        workers: how many.
        why: a clause with the figures that it follows from.
    """

    workers: int
    why: str


def sane(figures: Figures) -> Figures:
    """Return the figures without negative, infinite and undefined numbers: these count as 0, or as unknown."""
    mean = figures.mean_stage_seconds
    slots, workers = _count(figures.slots), _count(figures.workers)
    return replace(
        figures,
        due=_count(figures.due),
        oldest_due_seconds=_amount(figures.oldest_due_seconds),
        claimable=_count(figures.claimable),
        arrivals_per_minute=_amount(figures.arrivals_per_minute),
        mean_stage_seconds=None if mean is None or not math.isfinite(mean) or mean < 0 else _amount(mean),
        workers=workers,
        starting=_count(figures.starting),
        slots=slots,
        in_flight=_count(figures.in_flight),
        slots_each=_count(figures.slots_each) or (math.ceil(slots / workers) if workers else 0) or SLOTS_EACH,
        most_calls=None if figures.most_calls is None else _count(figures.most_calls),
        most_workers=None if figures.most_workers is None else _count(figures.most_workers),
    )


def need_of(figures: Figures, *, within_seconds: float) -> Need:
    """Return how many workers the work needs, whatever earlier decisions said.

    By Little's law, arrivals keep λ × S slots busy, where S is the mean time of a stage. And while N slots are
    emptied every S seconds, W stages find a slot within t seconds if N × (1 + t / S) ≥ W, those in flight included.

    Args:
        figures: sane ones.
        within_seconds: t, the time in which all stages that wait are to be claimed.
    """
    work = figures.in_flight + figures.claimable
    arriving, waiting = _slots_of_arrivals(figures), _slots_of_backlog(figures, within_seconds)
    slots, why = max((waiting, _backlog_words(figures, within_seconds)), (arriving, _arrival_words(figures)))
    if figures.claimable < figures.due and (slots > work or not figures.claimable):
        # Those that wait wait for something else than slots, and so would those that arrive.
        slots, why = min(slots, work), _blocked_words(figures)
    workers = _workers(slots, figures)
    if workers > figures.workers + figures.starting and _leaves_slots_free(figures):
        free = figures.slots - figures.in_flight
        why = (
            f"{free} slots are free and no worker claims what is due, the oldest for {figures.oldest_due_seconds:.0f} s"
        )
        return Need(figures.workers + figures.starting, why)
    return Need(workers, why)


def one_more(figures: Figures) -> Need:
    """Return one worker more than there are, where there are stages for its slots."""
    most = _workers(figures.in_flight + figures.claimable, figures)
    return Need(min(figures.workers + 1, most), f"the oldest stage has been due for {figures.oldest_due_seconds:.0f} s")


def floor_of(figures: Figures, min_workers: int) -> Need:
    """Return what work in flight asks for whatever arrives: the workers that it fills, and the minimum on top.

    Nothing is added for which there is no use: while a person must act, while all that is due is held back, while
    workers leave slots free, and beyond the cap on model calls.

    Args:
        figures: sane ones.
        min_workers: the minimum.
    """
    filled = _workers(figures.in_flight, figures)
    if not filled or figures.stopped or figures.due > figures.claimable == 0 or _leaves_slots_free(figures):
        spare = 0
    elif figures.most_calls is None:
        spare = min_workers
    else:
        spare = max(0, min(min_workers, _workers(figures.most_calls, figures) - filled))
    words = f"{figures.in_flight} in flight fill {plural(filled, 'worker')}"
    return Need(
        filled + spare, f"{words}, and {spare} more {'is' if spare == 1 else 'are'} to spare" if spare else words
    )


def _slots_of_arrivals(figures: Figures) -> float:
    if figures.stopped or figures.mean_stage_seconds is None:
        return 0.0
    busy = figures.arrivals_per_minute / 60 * figures.mean_stage_seconds
    slots = busy + SPARE * math.sqrt(busy)
    return slots if figures.most_calls is None else min(slots, float(figures.most_calls))


def _slots_of_backlog(figures: Figures, within_seconds: float) -> float:
    work, mean = figures.in_flight + figures.claimable, figures.mean_stage_seconds
    if mean is None:
        # Unknown: as if no slot became free in time.
        return float(work)
    return work * (mean / (mean + within_seconds) if mean + within_seconds > 0 else 1.0)


def _leaves_slots_free(figures: Figures) -> bool:
    """Whether the workers do not claim what they could: a provider that is paused until it is probed, for one."""
    return figures.oldest_due_seconds > CLAIM_SECONDS and 2 * figures.in_flight < figures.slots


def _workers(slots: float, figures: Figures) -> int:
    return math.ceil(min(slots, ENDLESS) / figures.slots_each)


def _backlog_words(figures: Figures, within_seconds: float) -> str:
    if not figures.claimable and not figures.in_flight:
        return "nothing is due and nothing in flight"
    words = f"{figures.in_flight} in flight"
    if not figures.claimable:
        return words
    words = f"{plural(figures.claimable, 'stage')} due and {words}"
    if figures.mean_stage_seconds is None:
        return f"{words}, and no stage has ended that says how long one takes"
    return f"{words}, {figures.mean_stage_seconds:.3g} s each, to be claimed within {within_seconds:.0f} s"


def _arrival_words(figures: Figures) -> str:
    return f"{figures.arrivals_per_minute:.3g} stages arrive a minute, {figures.mean_stage_seconds or 0:.3g} s each"


def _blocked_words(figures: Figures) -> str:
    held = figures.due - figures.claimable
    return (
        f"{figures.in_flight} in flight and {figures.claimable} claimable; "
        f"{held} more due {'is' if held == 1 else 'are'} held back by pauses, caps or limits"
    )


def _count(value: float) -> int:
    return int(_amount(value))


def _amount(value: float) -> float:
    """Return the number if it is one that can be: between 0 and endless."""
    return min(float(value), float(ENDLESS)) if not math.isnan(value) and value > 0 else 0.0
