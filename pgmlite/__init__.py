"""pgmlite: push one file to any number of machines over IP multicast.

The rings, and what each may import::

    cli -> {net, sim} -> core -> wire -> errors
"""

__version__ = "0.1.0"
