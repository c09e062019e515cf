"""What proves the speed: each module prints a table, or one JSON object with --json."""
