"""What replicas compute: the key-value machine, users' own machines, and the sessions that make retries safe."""
