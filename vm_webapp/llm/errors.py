"""How a model call fails, and what each failure means for the stage and for its provider.

Source of the rules: the public documentation of Kimi's API, and responses that its servers were seen to send.
"""

from __future__ import annotations

from vm_webapp.errors import VMError
from vm_webapp.llm.base import PartialCompletion


class LLMError(VMError):
    """A model call failed.

    Args:
        message: what happened; it is shown on the run's timeline and never holds a key.
        retry_after: seconds the server asked to wait, or None.

    Attributes:
        permanent: retrying the same stage is pointless.
        pauses_provider: no call can succeed until a person acts (a revoked key, an empty account).
        overload: counts toward the automatic pause of a provider that keeps failing.
        partial: what the model had sent before the call failed, None where it had sent nothing.
    """

    code = "llm_error"
    http_status = 502
    permanent = False
    pauses_provider = False
    overload = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.partial: PartialCompletion | None = None


class LLMNotConfigured(LLMError):
    """A stage needs a model and none is configured."""

    code = "llm_not_configured"
    permanent = True


class LLMUnauthorized(LLMError):
    """401: the key is missing, wrong or revoked."""

    code = "llm_unauthorized"
    permanent = True
    pauses_provider = True


class LLMPaymentRequired(LLMError):
    """402: the account cannot pay."""

    code = "llm_payment_required"
    permanent = True
    pauses_provider = True


class LLMForbidden(LLMError):
    """403: this key or this client may not use the endpoint."""

    code = "llm_forbidden"
    permanent = True
    pauses_provider = True


class LLMQuotaExceeded(LLMError):
    """429 or 403 with a quota message: nothing is left until the quota resets."""

    code = "llm_quota_exceeded"
    permanent = True
    pauses_provider = True


class LLMNotFound(LLMError):
    """404, 405 or a redirect: the base URL is wrong."""

    code = "llm_not_found"
    permanent = True
    pauses_provider = True


class LLMModelNotFound(LLMError):
    """The server does not offer the model, or no longer."""

    code = "llm_model_not_found"
    permanent = True
    pauses_provider = True


class LLMBadRequest(LLMError):
    """400 and other refusals of the request itself."""

    code = "llm_bad_request"
    permanent = True


class LLMContextExceeded(LLMError):
    """Prompt and budget do not fit into the model's context."""

    code = "llm_context_exceeded"
    permanent = True


class LLMContentFiltered(LLMError):
    """The model refused, or a content filter stopped its text: another try would end in the same way."""

    code = "llm_content_filtered"
    permanent = True


class LLMInterrupted(LLMError):
    """The server ended the text itself before it was finished (a failing engine, no resources)."""

    code = "llm_interrupted"
    overload = True


class LLMRateLimited(LLMError):
    """429, or 403 for too many calls at once: slow down and try again."""

    code = "llm_rate_limited"
    overload = True


class LLMOverloaded(LLMError):
    """The server says that its engine is overloaded, or responds with 5xx."""

    code = "llm_overloaded"
    overload = True


class LLMConnectionError(LLMError):
    """No connection, or it broke before the completion was finished."""

    code = "llm_connection_error"
    overload = True


class LLMTimeout(LLMError):
    """The attempt's deadline passed before the completion was finished."""

    code = "llm_timeout"


class LLMSilent(LLMError):
    """The model sent nothing at all before the deadline: the provider is failing, not this request."""

    code = "llm_silent"
    overload = True


class LLMEmptyCompletion(LLMError):
    """The completion has no text, as where reasoning used up the token budget."""

    code = "llm_empty_answer"


class LLMProtocolError(LLMError):
    """The response is not what an OpenAI-compatible server sends."""

    code = "llm_protocol_error"
