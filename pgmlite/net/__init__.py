"""The outside world: sockets in `udp`, disks in `storage`, clocks in `driver`; nowhere else."""
