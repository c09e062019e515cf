"""LUNA16 volumes to slices and semantic maps, on Ray."""
