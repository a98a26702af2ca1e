"""Feeds: text as it comes → checked rows → merged with what is stored."""
