"""Networks and clocks: sockets in `udp`, the loops that drive the machines beside it."""
