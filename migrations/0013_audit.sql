-- Who did what: entries that are only added, and the chain over them. See vm_webapp/access/audit.
-- oldest build: 0001_runs_and_stages
-- depends: 0012_roles_and_sessions

CREATE TABLE audit_entries (
    -- Before ``id``, because PostgreSQL evaluates defaults in this order: whoever draws an id has a transaction id then,
    -- which vm_webapp/access/audit/sealing.py relies on.
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor      text NOT NULL CHECK (actor <> ''),
    actor_id   text,
    role       text,
    address    text,
    request_id text,
    action     text NOT NULL CHECK (action <> ''),
    target     text,
    result     text NOT NULL DEFAULT 'done' CHECK (result IN ('done', 'refused')),
    data       jsonb NOT NULL DEFAULT '{}'
);
-- Each full index makes creating a run slower. Pages by actor or address come from the primary key, newest first.
CREATE INDEX audit_entries_target ON audit_entries (target, id);
-- Nearly all entries are of runs that were created: without them these two are small.
CREATE INDEX audit_entries_action ON audit_entries (action, id) WHERE action <> 'run.create';
CREATE INDEX audit_entries_refused ON audit_entries (id) WHERE result = 'refused';

CREATE TABLE audit_seals (
    position  bigint PRIMARY KEY CHECK (position > 0),
    entry_id  bigint NOT NULL UNIQUE,
    hash      bytea NOT NULL CHECK (length(hash) = 32),
    sealed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Where retention has cut the chain: the hash of the last entry that it removed.
CREATE TABLE audit_pruned (
    position  bigint PRIMARY KEY,
    hash      bytea NOT NULL,
    pruned_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- One row, from the first seal on: the end of the chain, and how far it has no gaps. Its lock admits one sealer.
CREATE TABLE audit_head (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL DEFAULT 0,
    hash     bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    low_id   bigint NOT NULL DEFAULT 0,
    mark_id  bigint NOT NULL DEFAULT 0,
    mark_xid xid8 NOT NULL DEFAULT '0'
);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Two conditions, one in the other: a row of another table has no such column.
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit_seals' THEN
        IF OLD.position <= (SELECT max(position) FROM audit_pruned) THEN
            RETURN OLD;
        END IF;
    ELSIF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit_entries' THEN
        IF EXISTS (SELECT FROM audit_seals
                    WHERE entry_id = OLD.id AND position <= (SELECT max(position) FROM audit_pruned)) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'rows of % are only added', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE ON audit_entries
   FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE ON audit_seals
   FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE ON audit_pruned
   FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON audit_entries
   FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON audit_seals
   FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON audit_pruned
   FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

-- What opens the way for a deletion: only what is sealed, with its hash, and nothing of the last 30 days.
CREATE FUNCTION check_audit_pruned() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM audit_seals WHERE position = NEW.position AND hash = NEW.hash)
       OR EXISTS (SELECT FROM audit_seals s JOIN audit_entries e ON e.id = s.entry_id
                   WHERE s.position <= NEW.position AND e.at > clock_timestamp() - interval '30 days') THEN
        RAISE EXCEPTION 'only sealed entries older than 30 days may be pruned' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_old_seals BEFORE INSERT ON audit_pruned
   FOR EACH ROW EXECUTE FUNCTION check_audit_pruned();

-- Deletes the oldest of the chain, with the rights of its owner: a service's own role needs no right to delete.
CREATE FUNCTION prune_audit(keep interval, at_most int) RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    last bigint;
    deleted int;
BEGIN
    PERFORM FROM audit_head FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT max(position) INTO last
      FROM (SELECT position, bool_and(at < clock_timestamp() - keep) OVER (ORDER BY position) AS old
              FROM (SELECT s.position, e.at FROM audit_seals s JOIN audit_entries e ON e.id = s.entry_id
                     ORDER BY s.position LIMIT at_most) first) first
     WHERE old;
    IF last IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO audit_pruned (position, hash) SELECT position, hash FROM audit_seals WHERE position = last;
    DELETE FROM audit_entries USING audit_seals s WHERE s.entry_id = audit_entries.id AND s.position <= last;
    DELETE FROM audit_seals WHERE position <= last;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;
REVOKE EXECUTE ON FUNCTION prune_audit(interval, int) FROM PUBLIC;
