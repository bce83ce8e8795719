"""Why QEMU can't migrate a VFIO device, in its own words: one table, by the source's version."""

from qmptests.suites.words import Seen, Words

#: `{}` is how QEMU calls the device.
BLOCKERS = Words(
    {
        "no migration": [
            Seen((10, 0), (10, 0), "{}: VFIO migration is not supported in kernel"),
            Seen(
                (11, 1),
                (11, 1),
                "{}: VFIO migration init failed: migration is not supported in kernel: "
                "Inappropriate ioctl for device",
            ),
        ],
        "no answer": [
            Seen(
                (10, 0),
                (10, 0),
                "{}: Migration couldn't be initialized for VFIO device, "
                "err: -5 (Input/output error)",
            ),
            Seen(
                (11, 1),
                (11, 1),
                "{}: VFIO migration init failed: failed to query migration flags: "
                "Input/output error",
            ),
        ],
        "no opt-in": [
            Seen(
                (11, 1),
                (11, 1),
                "{}: VFIO migration init failed: failed to set precopy info v2: Input/output error",
            ),
        ],
        "switched off": [
            Seen((10, 0), (11, 1), "{}: Migration is disabled for VFIO device"),
        ],
        "no dirty tracking": [
            Seen(
                (10, 0),
                (11, 1),
                "{}: VFIO device doesn't support device and IOMMU dirty tracking",
            ),
        ],
        "several without P2P": [
            Seen(
                (10, 0),
                (11, 1),
                "Multiple VFIO devices migration is supported only if all of them support "
                "P2P migration",
            ),
        ],
        "vIOMMU": [
            Seen(
                (10, 0),
                (11, 1),
                "{}: Migration is currently not supported with vIOMMU enabled",
            ),
        ],
        "postcopy": [
            Seen((10, 0), (11, 1), "{}: VFIO migration is not supported with postcopy migration"),
        ],
        "background snapshot": [
            Seen((10, 0), (11, 1), "{}: VFIO migration is not supported with background snapshot"),
        ],
    }
)

#: What QEMU says of a capability where the kernel keeps userfaultfd(2) for root.
NO_USERFAULTFD = ("Userfaultfd not available", "not supported by host kernel")
