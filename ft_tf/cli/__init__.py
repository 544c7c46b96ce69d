"""The commands: flags to a recipe to one call of the library."""
