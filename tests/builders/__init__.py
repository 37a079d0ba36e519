"""Small models, data and configs that the tests of several rooms build."""
