"""An app with periodic tasks, for the workers of one test only."""
