"""Recipes: what is to be done to a network, as checked data."""

from veriquant.recipes.recipe import Recipe, load_recipe, shipped_recipes

__all__ = ["Recipe", "load_recipe", "shipped_recipes"]
