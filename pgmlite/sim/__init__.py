"""The same machines under a virtual clock; never imports `pgmlite.net`."""
