"""Commands that need no Ray job: show, demo, phantom, import-checkpoint."""
