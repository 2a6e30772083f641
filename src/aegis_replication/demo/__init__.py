"""Does it hold what it promises, here, now? A cluster of real processes, to play with or put through its proof."""
