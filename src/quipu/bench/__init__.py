"""How fast a model runs on this machine: what the machine could do, what we do, and what others do, in one run."""
