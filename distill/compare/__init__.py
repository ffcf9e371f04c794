"""Comparing teachers: the same problems asked of several, and what each costs per accepted trace (`command.py`)."""
