"""What the services share: Ray, progress, telemetry and errors."""
