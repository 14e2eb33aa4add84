-- Brands, projects, runs with their stages, artifacts and timeline; workers and providers.
-- depends:
-- oldest build: 0001_runs_and_stages

-- Tells this database from any other, so that a worker on the wrong one is found out.
CREATE TABLE installation (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid()
);
INSERT INTO installation DEFAULT VALUES;

CREATE TABLE brands (
    id              uuid PRIMARY KEY,
    name            text NOT NULL CHECK (name <> ''),
    voice           text NOT NULL DEFAULT '',
    audience        text NOT NULL DEFAULT '',
    products        jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(products) = 'array'),
    facts           jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(facts) = 'array'),
    forbidden_words jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(forbidden_words) = 'array'),
    version         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    archived_at     timestamptz
);
CREATE INDEX brands_newest ON brands (created_at DESC, id DESC);

CREATE TABLE projects (
    id          uuid PRIMARY KEY,
    brand_id    uuid REFERENCES brands,
    name        text NOT NULL CHECK (name <> ''),
    objective   text NOT NULL DEFAULT '',
    channels    jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(channels) = 'array'),
    starts_on   date,
    ends_on     date,
    version     integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    CHECK (ends_on >= starts_on)
);
CREATE INDEX projects_newest ON projects (created_at DESC, id DESC);

CREATE TABLE runs (
    id            uuid PRIMARY KEY,
    workflow      text NOT NULL,
    status        text NOT NULL CHECK (status IN
                      ('queued', 'running', 'waiting_approval', 'completed', 'failed', 'canceled')),
    priority      smallint NOT NULL DEFAULT 0 CHECK (priority IN (0, 1)),
    request       text NOT NULL CHECK (request <> ''),
    auto_approve  boolean NOT NULL DEFAULT false,
    brand_id      uuid REFERENCES brands,
    project_id    uuid REFERENCES projects,
    parent_run_id uuid REFERENCES runs ON DELETE SET NULL,
    snapshot      jsonb NOT NULL,
    error         jsonb,
    created_at    timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,
    finished_at   timestamptz,
    CONSTRAINT runs_finished_has_time
        CHECK ((status IN ('completed', 'failed', 'canceled')) = (finished_at IS NOT NULL)),
    CONSTRAINT runs_failed_has_error CHECK (status <> 'failed' OR error IS NOT NULL)
);
COMMENT ON COLUMN runs.priority IS '0 normal, 1 low (bulk)';
COMMENT ON COLUMN runs.snapshot IS 'workflow, brand and project as they were when the run was created';
CREATE INDEX runs_newest ON runs (created_at DESC, id DESC);
CREATE INDEX runs_newest_by_status ON runs (status, created_at DESC, id DESC);
CREATE INDEX runs_newest_by_workflow ON runs (workflow, created_at DESC, id DESC);
CREATE INDEX runs_newest_by_brand ON runs (brand_id, created_at DESC, id DESC) WHERE brand_id IS NOT NULL;
CREATE INDEX runs_newest_by_project ON runs (project_id, created_at DESC, id DESC) WHERE project_id IS NOT NULL;
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent_run_id) WHERE parent_run_id IS NOT NULL;

CREATE TABLE stages (
    id                uuid PRIMARY KEY,
    run_id            uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    position          smallint NOT NULL CHECK (position >= 1),
    key               text NOT NULL,
    title             text NOT NULL,
    status            text NOT NULL CHECK (status IN
                          ('pending', 'queued', 'running', 'waiting_approval', 'completed', 'failed', 'canceled')),
    priority          smallint NOT NULL,
    requires_approval boolean NOT NULL,
    needs_model       boolean NOT NULL,
    attempt           integer NOT NULL DEFAULT 0,
    failures          integer NOT NULL DEFAULT 0,
    rescues           integer NOT NULL DEFAULT 0,
    releases          integer NOT NULL DEFAULT 0,
    available_at      timestamptz,
    queued_at         timestamptz,
    started_at        timestamptz,
    finished_at       timestamptz,
    lease_token       uuid UNIQUE,
    lease_expires_at  timestamptz,
    deadline_at       timestamptz,
    worker_id         uuid,
    provider          text,
    feedback          text,
    error             jsonb,
    UNIQUE (run_id, position),
    UNIQUE (run_id, key),
    CONSTRAINT stages_running_has_lease CHECK (
        (status = 'running') = (lease_token IS NOT NULL)
        AND (status = 'running') = (lease_expires_at IS NOT NULL)
        AND (status = 'running') = (deadline_at IS NOT NULL)),
    CONSTRAINT stages_finished_has_time
        CHECK ((status IN ('completed', 'failed', 'canceled')) = (finished_at IS NOT NULL)),
    CONSTRAINT stages_queued_has_time CHECK (status <> 'queued' OR available_at IS NOT NULL),
    CONSTRAINT stages_failed_has_error CHECK (status <> 'failed' OR error IS NOT NULL)
);
COMMENT ON COLUMN stages.attempt IS 'numbers the claims; only grows';
COMMENT ON COLUMN stages.failures IS 'failed attempts counted against the retry budget';
COMMENT ON COLUMN stages.rescues IS 'leases lost; bounded';
COMMENT ON COLUMN stages.releases IS 'attempts handed back by a draining worker; costs nothing';
COMMENT ON COLUMN stages.feedback IS 'what a reviewer asked to change in the newest version';
-- The queue. UUIDv7 keys sort by age, so this serves the oldest run of the best priority first.
CREATE INDEX stages_due ON stages (priority, run_id) WHERE status = 'queued';
-- A paused or full provider must not hide the stages that need none behind thousands that do.
CREATE INDEX stages_due_without_model ON stages (priority, run_id) WHERE status = 'queued' AND NOT needs_model;
CREATE INDEX stages_leased ON stages (lease_expires_at) WHERE status = 'running';
CREATE INDEX stages_waiting ON stages (run_id) WHERE status = 'waiting_approval';
-- Counters change at every step of a stage: room on the page keeps those updates off the other indexes.
ALTER TABLE stages SET (fillfactor = 80);

CREATE TABLE artifacts (
    id                uuid PRIMARY KEY,
    run_id            uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    stage_id          uuid NOT NULL REFERENCES stages ON DELETE CASCADE,
    version           integer NOT NULL CHECK (version >= 1),
    attempt_token     uuid UNIQUE,
    name              text NOT NULL,
    media_type        text NOT NULL,
    sha256            text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size              integer NOT NULL CHECK (size >= 0),
    content           text NOT NULL,
    provider          text NOT NULL,
    model             text,
    prompt_tokens     integer,
    completion_tokens integer,
    truncated         boolean NOT NULL DEFAULT false,
    author            text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (stage_id, version)
);
COMMENT ON COLUMN artifacts.attempt_token IS
    'the lease token of the attempt that wrote it: tells after a lost COMMIT whether it was ourselves';
CREATE INDEX artifacts_by_run ON artifacts (run_id);

CREATE TABLE events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id     uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    stage      text,
    type       text NOT NULL,
    actor      text NOT NULL,
    data       jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX events_by_run ON events (run_id, id);

CREATE TABLE queues (
    name      text PRIMARY KEY,
    paused_at timestamptz,
    paused_by text,
    reason    text
);
INSERT INTO queues (name) VALUES ('stages');

CREATE TABLE providers (
    name                 text PRIMARY KEY,
    paused_at            timestamptz,
    paused_until         timestamptz,
    reason               jsonb,
    consecutive_failures integer NOT NULL DEFAULT 0,
    pauses               integer NOT NULL DEFAULT 0,
    probe_token          uuid,
    CHECK (paused_at IS NOT NULL OR (paused_until IS NULL AND reason IS NULL AND probe_token IS NULL))
);
COMMENT ON COLUMN providers.paused_until IS
    'paused and NULL: until an operator resumes; paused and set: then one probe call may reopen it';
COMMENT ON COLUMN providers.pauses IS 'automatic pauses in a row; the exponent of their backoff';

CREATE TABLE worker_heartbeats (
    worker_id          uuid PRIMARY KEY,
    host               text NOT NULL,
    pid                integer NOT NULL,
    build              text NOT NULL,
    newest_migration   text NOT NULL,
    fingerprint        text NOT NULL,
    provider           text NOT NULL,
    llm_cap            integer,
    state              text NOT NULL CHECK (state IN ('starting', 'working', 'draining', 'stopped')),
    slots              integer NOT NULL,
    in_flight          integer NOT NULL,
    started_at         timestamptz NOT NULL DEFAULT now(),
    last_tick_at       timestamptz NOT NULL DEFAULT now(),
    steady_since       timestamptz NOT NULL DEFAULT now(),
    last_claim_at      timestamptz,
    last_model_outcome jsonb,
    last_error         jsonb,
    counters           jsonb NOT NULL DEFAULT '{}',
    stopped_at         timestamptz,
    CHECK ((state = 'stopped') = (stopped_at IS NOT NULL))
);
COMMENT ON COLUMN worker_heartbeats.steady_since IS
    'since when ticks have reached this database without a gap, whichever workers made them';
CREATE INDEX worker_heartbeats_fresh ON worker_heartbeats (last_tick_at);
ALTER TABLE worker_heartbeats SET (fillfactor = 50);
