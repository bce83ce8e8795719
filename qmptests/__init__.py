"""qmptests: integration tests for QEMU live migration, on real builds and real VMs."""
