"""Raft as in Figure 2 of the paper: no clock, no socket, no file. The awaitable door to it is `aegis_replication.raft`."""
