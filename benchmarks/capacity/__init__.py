"""How long a cluster takes, from measured rates."""
