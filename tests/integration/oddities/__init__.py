"""An app with tasks that do to a worker what no shop would."""
