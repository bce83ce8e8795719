"""What QEMU says when it refuses a migration: one table, by the destination's version."""

from qmptests.suites.words import Seen, Words

WORDS = Words(
    {
        "unknown machine type": [
            Seen((7, 2), (7, 2), "unsupported machine type"),
            Seen((10, 0), (11, 1), 'unsupported machine type: "{}"'),
        ],
        "another machine type": [
            Seen((7, 2), (11, 1), "Machine type received is '{}' and local is '{}'"),
        ],
        "another size": [
            Seen((7, 2), (11, 1), "Size mismatch: pc.ram: {:#x} != {:#x}: Invalid argument"),
        ],
        "unknown memory": [
            Seen((7, 2), (11, 1), 'Unknown ramblock "{}", cannot accept migration'),
        ],
        "unknown section": [
            Seen((7, 2), (10, 0), "Unknown savevm section or instance '{}' 0."),
            Seen((11, 1), (11, 1), "Unknown section or instance '{}' 0."),
        ],
    }
)

possible, find = WORDS.possible, WORDS.find
