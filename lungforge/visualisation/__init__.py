"""Contact sheets and training curves."""
