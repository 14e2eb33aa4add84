"""Who may use the API: the keys that operators create for its clients."""
