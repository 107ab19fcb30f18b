"""All that knows of Git's own formats; the only door to dulwich and sshsig.

Both take a while to import: `against` is for a command that ends soon, and the daemon runs `child` as a process of its
own. Nothing is ever checked out, and no other program is run.
"""
