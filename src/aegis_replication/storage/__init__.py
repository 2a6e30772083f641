"""Where a node's state survives: one log for all its groups, snapshots, the identity of its directory."""
