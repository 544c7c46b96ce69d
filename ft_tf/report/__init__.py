"""Run folders to tables, plots and one HTML page. No TensorFlow."""
