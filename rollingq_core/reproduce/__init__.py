"""Result records, computed anew: one recipe for each table and figure."""

from rollingq_core._extras import needs

with needs("train", "data"):
    from rollingq_core.reproduce.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe"]
