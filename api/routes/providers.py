"""Model providers: open one that was paused."""

from __future__ import annotations

from api.operations.call import Call
from api.operations.command import command
from api.operations.operation import Answer
from api.schemas.providers import ProviderOut, ProviderPath
from vm_webapp.ops import queue_control


@command("POST", "/providers/{name}/resume", summary="Call a paused provider again")
def resume_provider(call: Call, path: ProviderPath) -> Answer[ProviderOut]:
    """Open it; one that is not paused stays as it is."""
    return Answer(ProviderOut(name=path.name, resumed=queue_control.resume_provider(path.name)))
