"""Stockpot shown from the outside: publish a base and three experts, compose them, download, score."""
