"""The child's side of the sandbox: what locks a process in, with the standard library only.

`launch.py` is started in a fresh interpreter by `distill/verify/sandbox.py`; the other files are one mechanism each.
Nothing here decides what a verdict is, and nothing here imports more of distill than its light package file.
"""
