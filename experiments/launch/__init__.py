"""From one process to many: who they are, how they start, how they end."""
