"""Stores, as the database keeps them."""
