"""A node's door for probes, monitoring and people with curl: read-only pages over HTTP/1.1. Needs the extra `http`."""
