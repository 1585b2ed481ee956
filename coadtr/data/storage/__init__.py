"""The feature store: its schema, how it is written so that a killed run goes on, read fast, and verified."""
