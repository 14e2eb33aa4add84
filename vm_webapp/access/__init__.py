"""Who may do what: keys, roles, sessions and limits, and the trail of what was done."""
