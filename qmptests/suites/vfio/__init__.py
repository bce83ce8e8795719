"""QEMU's VFIO code against emulated devices: what each build does with what a device does."""
