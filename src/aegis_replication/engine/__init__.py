"""A whole node without I/O: events in, effects out. `aegis_replication.node` and
`aegis_replication.simulation` host it.
"""
