"""Drawing synthetic slices from maps, on Ray actors."""
