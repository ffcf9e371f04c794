"""Side by side: this toolkit's harvester and its peers against one local server; `run.py` runs it."""
