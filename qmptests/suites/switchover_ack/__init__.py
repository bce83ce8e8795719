"""Switchover-ack and REINIT: each claim of the series on QEMU builds, with emulated devices."""
