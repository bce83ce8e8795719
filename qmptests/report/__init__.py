"""What runs say when they are held against each other."""
