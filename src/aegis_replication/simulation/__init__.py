"""A whole cluster in one thread on virtual time: the production engine and log under a bad network, disk and fate."""
