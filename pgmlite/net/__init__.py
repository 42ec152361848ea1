"""Networks and clocks: places in `address`, sockets in `udp`, the loops that drive the machines."""
