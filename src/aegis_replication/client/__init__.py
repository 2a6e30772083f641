"""The client of a cluster: finds its leader, retries safely, and says so when it cannot know."""
