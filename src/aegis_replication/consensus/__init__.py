"""Raft as in Figure 2 of the paper: no clock, no socket, no file. Its awaitable door is `aegis_replication.raft`."""
