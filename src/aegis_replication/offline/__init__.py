"""What can an operator do to a data directory while no node runs on it? Found a cluster from a backup, or save one."""
