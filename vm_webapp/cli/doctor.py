"""``doctor``: report what is wrong, and the next command to type."""

from __future__ import annotations

import json
from dataclasses import asdict

from vm_webapp.cli.database import open_database
from vm_webapp.cli.output import as_called
from vm_webapp.ops.doctor import examine
from vm_webapp.settings import Settings


def run_doctor(settings: Settings, *, as_json: bool) -> int:
    """Run all checks and print them; return 1 if a check fails."""
    with open_database(settings) as redis_url:
        checks = examine(settings, redis_url)
    if as_json:
        print(json.dumps([asdict(check) for check in checks]))
    else:
        for check in checks:
            print(as_called(f"{check.verdict:5} {check.name:16} {check.detail}"))
            if check.next:
                print(as_called(f"{'':23}→ {check.next}"))
    return 1 if any(check.verdict == "fail" for check in checks) else 0
