"""How packets travel between nodes and from clients: in memory and over TCP."""
