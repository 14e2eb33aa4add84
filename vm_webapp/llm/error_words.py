"""How servers word their errors: ``docs/models.md`` has the sources.

Codes and words are compared with the lower-case text of type, code and message, whatever the status.
"""

from __future__ import annotations

import re

NO_MONEY = re.compile(
    r"exceeded_current_quota|insufficient[ _](quota|balance|credit|funds)|usage limit|arrear|overdue|out of credit"
    r"|credit[ _]balance|spend_limit|budget_exceeded|budget has been exceeded|requires more credits|good standing"
    r"|balance (is )?insufficient|payment required"
    r"|billing_hard_limit|balance is (too low|not enough)|not enough (balance|credit)"
    r"|余额|欠费|无可用资源包"
)
NO_MONEY_CODES = frozenset(
    {
        "1113",
        "1304",
        "1308",
        "1310",
        "30001",
        "insufficient_quota",
        "insufficient_balance",
        "arrearage",
        "exceeded_current_quota",
    }
)
NO_MODEL = re.compile(
    r"model_not_found|model_not_exist|not_found_model|model not exist|no such model|unknown model|not a valid model"
    r"|invalid[ _]model\b|no models loaded|deploymentnotfound|deployment for this resource does not exist"
    r"|no endpoints found|model_deprecated|model_decommissioned|模型不存在"
    r"|\bmodel\b.{0,120}?\b(not found|does ?n[o']t exist|does not exist|not exist"
    r"|is not (available|supported|served|loaded)"
    r"|has been (deprecated|retired|removed|decommissioned|shut ?down)|is (deprecated|retired)|no longer)"
    r"|not found the model|does not exist or you do not have access"
    r"|cached snapshot folder|repository not found"  # mlx_lm, which looks for an unknown model on a hub
)
NO_MODEL_CODES = frozenset({"1211", "1221", "20012", "model_not_found"})
BAD_KEY = re.compile(
    r"api[ _]key[ _](not[ _]valid|invalid)|(invalid|incorrect)[ _]api[ _]?key|invalid_authentication"
    r"|no_db_connection"  # LiteLLM without a database: it looks there for a key that is not its master key
)
WRONG_URL = re.compile(r"unexpected endpoint|invalid url|404 page not found")
FILTERED = re.compile(
    r"content_filter|content_policy|responsibleaipolicy|data_?inspection_?failed|content management policy"
    r"|considered high risk"
)
FILTERED_CODES = frozenset({"1300", "1301"})  # Zhipu
# OpenAI says so with 400, before it has sent any text.
NO_ROOM_FOR_TEXT = "could not finish the message because max_tokens"
RETRY_IN = re.compile(r"retry in (\d+(?:\.\d+)?) ?s")
TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|contextwindowexceeded|context (length|window|size)"
    r"|maximum context|prompt is too long|too many tokens|input is too long|exceed\w* .{0,40}context|model_max_length"
    r"|range of input length|tokens to keep from the initial prompt|keep the first \d+ tokens"
    r"|too large for model with|exceeded model token limit|token length too long|prompt too long"
    r"|reduce the length of (?:the|either)|maximum number of tokens allowed|maximum prompt length"
    r"|configured limit of \d+ tokens|`inputs` (?:tokens|must have less)|message size \d+ exceeds limit"
)
TOO_LONG_CODES = frozenset({"1261", "context_length_exceeded", "string_above_max_length"})
OVERLOADED = re.compile(r"overloaded|server_error|server error|unavailable|engine|internal[ _]error|timeout|timed out")
TOO_FAST = re.compile(r"rate[ _-]?limit|too many requests|concurren|throttl|slow down|requests per")
# Types of error objects that carry no status (OpenAI, Anthropic, Moonshot, vLLM), and the status that they mean.
STATUS_OF_KIND = {
    **dict.fromkeys(("1000", "1001", "1002", "1003", "1004", "1005"), 401),  # Zhipu
    **dict.fromkeys(("1110", "1111", "1112", "1121", "1220", "1309", "1311", "1313"), 403),
    **dict.fromkeys(("1302", "1303", "1305"), 429),
    "11200": 403,  # Spark
    **dict.fromkeys(("11201", "11202", "11203"), 429),
    "authentication_error": 401,
    "invalid_authentication_error": 401,
    "incorrect_api_key_error": 401,
    "permission_error": 403,
    "permission_denied_error": 403,
    "billing_error": 402,
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "not_found_error": 404,
    "notfounderror": 404,
    "resource_not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_reached_error": 429,
    "overloaded_error": 529,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "internalservererror": 500,
}
