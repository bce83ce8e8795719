"""The tests of QEMU that come with qmptests: `pytest --pyargs qmptests.suites`."""
