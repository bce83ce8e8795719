"""Device profiles that ship with qmptests: TOML, no Python needed to add one."""
