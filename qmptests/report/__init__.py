"""What runs say to a reader, and what has changed between them."""
