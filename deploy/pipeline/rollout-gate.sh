#!/usr/bin/env bash
# The rollout gate: the last step of a deploy. It passes when the new build is ready and carries a run to its end.
#
#   BASE_URL=https://vm-webapp-api.onrender.com VM_API_TOKEN=… COMMIT=$GITHUB_SHA deploy/pipeline/rollout-gate.sh
#
# BASE_URL       where the API answers.
# VM_API_TOKEN   the token of the environment group vm-webapp; keep it as a secret of the pipeline.
# COMMIT         the commit that is deployed. Without it the old build, while it still serves, passes as the new one.
# WAIT_SECONDS   how long the deploy may take until API and workers are there, ready and of that commit (default 300).
#
# Exit code 0: done. 1: a step failed, and the last line names it; roll back as deploy/RUNBOOK.md says. 2: misused.
# Nothing secret is ever an argument: arguments are in the process list.
set -euo pipefail
cd "$(dirname "$0")/../.."

for name in BASE_URL VM_API_TOKEN; do
  if [ -z "${!name:-}" ]; then
    echo "rollout-gate: set $name" >&2
    exit 2
  fi
done

exec uv run python -m vm_webapp smoke --base-url "$BASE_URL" --wait "${WAIT_SECONDS:-300}" \
  ${COMMIT:+--expect-build "$COMMIT"}
