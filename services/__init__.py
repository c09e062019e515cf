"""The services: one folder each, its configuration and its Ray job; and the command line over them."""
