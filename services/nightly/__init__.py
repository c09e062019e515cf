"""Night after night: the newest model evaluated, the history, and whether it got worse."""
