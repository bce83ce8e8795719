"""Compatibility: any two builds, on each machine type that both know, in both directions."""
