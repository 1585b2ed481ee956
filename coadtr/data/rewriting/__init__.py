"""Stores out of stores: joined, divided, in another type."""
