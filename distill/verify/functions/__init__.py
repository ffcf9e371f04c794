"""Function tests across a wall: the program in one sandbox, the tests outside it or in another, data in between.

So a program never holds what is expected of it, cannot read it from frames or files, and cannot answer with an object
that claims to equal everything. These files are written into the sandboxes, so they import the standard library only.
"""
