"""The two address forms of `migrate` and `migrate-incoming` (qapi/migration.json)."""

from typing import Any


def socket_address(uri: str, address: dict[str, Any], channels: bool) -> dict[str, Any]:
    """Arguments with either `uri` or one `channels` entry that says the same."""
    if not channels:
        return {"uri": uri}
    return {"channels": [{"channel-type": "main", "addr": {"transport": "socket", **address}}]}
