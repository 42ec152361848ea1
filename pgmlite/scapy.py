"""The scapy layer: ``from pgmlite.scapy import Pgmlite`` binds it to the UDP port."""

from pgmlite.dissect.scapy import *  # noqa: F403
