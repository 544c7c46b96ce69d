"""TFLite files of tests, from their bytes."""

import os

from absl.testing import absltest

from ft_tf.evaluation import device_files


def predictor(
  test: absltest.TestCase, content: bytes
) -> device_files.LiteRTPredictor:
  """Returns the predictor of a file, which lies in a folder of the test."""
  path = os.path.join(test.create_tempdir().full_path, 'm.tflite')
  with open(path, 'wb') as file:
    file.write(content)
  return device_files.LiteRTPredictor(path)
