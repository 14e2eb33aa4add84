DROP FUNCTION prune_audit(interval, int);
DROP TABLE audit_head;
DROP TABLE audit_pruned;
DROP TABLE audit_seals;
DROP TABLE audit_entries;
DROP FUNCTION check_audit_pruned();
DROP FUNCTION refuse_audit_change();
