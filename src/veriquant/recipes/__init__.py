"""Recipes: what is to be done to a network, as checked data."""
