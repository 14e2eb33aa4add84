// What people do with the generated TypeScript types, over openapi-fetch: node journey.js ADDRESS KEY
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

type Run = components["schemas"]["RunOut"];

const [address, key] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl: address, headers: { Authorization: `Bearer ${key}` } });

function check(holds: unknown, what: string): asserts holds {
  if (!holds) throw new Error(what);
}

async function changeABrand(): Promise<string> {
  const created = await client.POST("/api/v2/brands", { body: { name: "Bread by Bike", max_running: 2 } });
  check(created.data, "a brand");
  const brand_id = created.data.id;
  const tag = created.response.headers.get("ETag") ?? "";
  const change = (voice: string) =>
    client.PATCH("/api/v2/brands/{brand_id}", { params: { path: { brand_id }, header: { "If-Match": tag } }, body: { voice } });
  const changed = await change("Warm.");
  check(changed.data?.version === 2 && changed.data.voice === "Warm.", "a change");
  const late = await change("Cold.");
  check(late.response.status === 412 && late.error?.type === "/problems/changed_meanwhile", "an old version");
  return brand_id;
}

async function create(brand_id: string): Promise<Run> {
  const once = () =>
    client.POST("/api/v2/runs", {
      params: { header: { "Idempotency-Key": "page-2" } },
      body: { workflow: "landing_page", request: "A page for a bakery", brand_id },
    });
  const [first, again] = [await once(), await once()];
  check(first.data && again.data?.id === first.data.id, "one run for one key");
  check(again.response.headers.get("Idempotency-Replayed") === "true", "a repetition");
  return first.data;
}

async function follow(run_id: string, ...statuses: Run["status"][]): Promise<Run> {
  for (;;) {
    const { data } = await client.GET("/api/v2/runs/{run_id}", { params: { path: { run_id }, query: { wait: 20 } } });
    check(data, "the run");
    if (statuses.includes(data.status)) return data;
  }
}

async function review(run: Run): Promise<void> {
  const stage = run.stages[0];
  check(stage?.artifact, "a draft");
  const params = { path: { run_id: run.id, key: stage.key } };
  const digest = stage.artifact.sha256;
  const back = await client.POST("/api/v2/runs/{run_id}/stages/{key}/request-changes", {
    params,
    body: { artifact_sha256: digest, feedback: "Say that it comes by bicycle." },
  });
  check(back.data, "sent back");
  await follow(run.id, "waiting_approval");
  const old = await client.POST("/api/v2/runs/{run_id}/stages/{key}/approve", { params, body: { artifact_sha256: digest } });
  check(old.response.status === 409 && old.error, "an old draft");
  const current = String(old.error["current_sha256"]);
  const accepted = await client.POST("/api/v2/runs/{run_id}/stages/{key}/approve", {
    params,
    body: { artifact_sha256: current, note: "Much better." },
  });
  check(accepted.data, "accepted");
}

async function stream(run_id: string): Promise<string[]> {
  const { data } = await client.GET("/api/v2/runs/{run_id}/events", {
    params: { path: { run_id } },
    headers: { Accept: "text/event-stream" },
    parseAs: "text",
  });
  return String(data).split("\n").filter((line) => line.startsWith("event: ")).map((line) => line.slice(7));
}

async function page(run: Run): Promise<void> {
  const found: string[] = [];
  let cursor: string | undefined;
  do {
    const { data } = await client.GET("/api/v2/runs", { params: { query: { limit: 1, cursor } } });
    check(data, "a page");
    found.push(...data.items.map((each) => each.id));
    cursor = data.next_cursor ?? undefined;
  } while (cursor);
  check(found.includes(run.id) && new Set(found).size === found.length, "every run once");
  const { data } = await client.GET("/api/v2/runs/{run_id}/artifacts", { params: { path: { run_id: run.id } } });
  check(data && new Set(data.items.map((each) => each.stage)).size === 3, "three artifacts");
}

const run = await create(await changeABrand());
await review(await follow(run.id, "waiting_approval"));
const seen = await stream(run.id);
check(seen.includes("changes.requested") && seen.at(-1) === "run.completed", `a stream to the end: ${seen}`);
await page(await follow(run.id, "completed", "failed", "canceled"));
console.log("done");
