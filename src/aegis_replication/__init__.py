"""The distributed layer of a database: Raft, durable logs, placement, transactions, CRDTs."""

__version__ = "0.1.0"
