"""The protocol machines: rows, time and randomness in; actions out. No socket, clock or file.

Read `machine` first: the contract that `sender` and `receiver` share and that `pgmlite.net` and
`pgmlite.sim` drive.
"""
