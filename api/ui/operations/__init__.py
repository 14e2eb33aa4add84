"""What operators look at and do in an incident, and what admins keep: keys, sessions, the audit trail."""
