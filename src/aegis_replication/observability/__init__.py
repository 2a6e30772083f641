"""What do an operator's tools get to see of a node? Its log lines, and its rows in a table of the cluster."""
