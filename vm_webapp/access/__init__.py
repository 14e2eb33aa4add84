"""Who may use the API: the keys that operators make for its clients."""
