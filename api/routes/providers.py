"""The route that resumes a paused model provider."""

from __future__ import annotations

from api.operations.call import Call
from api.operations.command import command
from api.operations.operation import JsonResponse
from api.schemas.providers import ProviderOut, ProviderPath
from vm_webapp.ops import queue_control


@command("POST", "/providers/{name}/resume", role="operator", summary="Call a paused provider again", tag="queue")
def resume_provider(call: Call, path: ProviderPath) -> JsonResponse[ProviderOut]:
    """Resume the provider; one that is not paused stays unchanged."""
    return JsonResponse(ProviderOut(name=path.name, resumed=queue_control.resume_provider(path.name, actor=call.actor)))
