"""The student leaves: SavedModel and TFLite, checked and measured."""
