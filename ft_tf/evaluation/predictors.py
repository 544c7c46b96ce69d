"""A Keras model, a SavedModel or a .tflite file, run on raw images."""

import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import errors, paths
from ft_tf.evaluation import device_files, inference, saved_model_checks
from ft_tf.models import checks, model_files, onnx_models, standard

SIGNATURE = 'serving_default'


class KerasPredictor(inference.Predictor):
  """The compiled inference of a Keras model; it moves no variable."""

  def __init__(self, model: keras.Model, *, given: str = ''):
    """Wraps a model of one image input and one logits output.

    Args:
      model: The model.
      given: As of `Predictor`.
    """
    self.image_shape = tuple(model.input_shape[1:])
    self.given = given
    model = onnx_models.pruned(model)

    def predict(images):
      return tf.cast(model(images, training=False), tf.float32)

    # Not called itself: TensorFlow takes several predictors for one function
    # that is traced too often, and warns.
    self._predict = tf.function(predict, autograph=False)
    self._compiled: dict[tf.DType, Any] = {}

  def __call__(self, images: np.ndarray) -> np.ndarray:
    batch = tf.constant(images)
    with inference.computing(self.given):
      if batch.dtype not in self._compiled:
        self._compiled[batch.dtype] = self._predict.get_concrete_function(
          tf.TensorSpec([None, *batch.shape[1:]], batch.dtype)
        )
      return self._compiled[batch.dtype](batch).numpy()


class SavedModelPredictor(inference.Predictor):
  """The serving signature of a SavedModel folder.

  Images are cast to the signature's dtype; their values stay 0..255.
  """

  opaque = True

  def __init__(self, path: str):
    """Loads the folder.

    Args:
      path: A SavedModel with the signature `serving_default`, or with one
        signature of another name, of one image input and one output.

    Raises:
      UsageError: the folder does not load, there is no such signature, or as of
        `saved_model_checks.check`.
    """
    if not model_files.is_unsafe_allowed():
      saved_model_checks.check(path)
    try:
      # The signature does not keep the object it came from alive.
      self._loaded = tf.saved_model.load(path)
    except Exception as error:  # TensorFlow raises many kinds.
      raise errors.UsageError(
        f'{path} does not load as a SavedModel ('
        f'{errors.first_line(error)}): give another model'
      ) from error
    signatures = self._loaded.signatures
    names = [SIGNATURE] if SIGNATURE in signatures else list(signatures)
    if len(names) != 1:
      raise errors.UsageError(
        f'{path} has the signatures {", ".join(names) or "none"}: give a '
        f'SavedModel with a signature {SIGNATURE}, from images to logits'
      )
    self.given = path
    self._serve = signatures[names[0]]
    inputs = self._serve.structured_input_signature[1]
    outputs = self._serve.structured_outputs
    inference.check_single(path, inputs, outputs)
    ((self._name, spec),) = inputs.items()
    shape: list[int | None] = [None] * 4
    if spec.shape.rank is not None:
      shape = spec.shape.as_list()
    inference.check_images(path, shape, spec.dtype.as_numpy_dtype)
    if spec.dtype == tf.int8:
      raise errors.UsageError(
        f'{path} takes int8 values, images are 0 to 255: give a SavedModel '
        'that takes uint8 or float32'
      )
    self._dtype = spec.dtype
    self._batch, height, width, channels = shape
    self.image_shape = height, width, channels

  def __call__(self, images: np.ndarray) -> np.ndarray:
    return inference.in_fixed_batches(
      self._run, images, self._batch, self.given
    )

  def _run(self, images):
    inputs = tf.cast(tf.constant(images), self._dtype)
    with inference.computing(self.given):
      (output,) = self._serve(**{self._name: inputs}).values()
      return tf.cast(output, tf.float32).numpy()


def open_predictor(path: str) -> inference.Predictor:
  """Returns the predictor of a model file or folder, by its kind.

  Raises:
    UsageError: there is no such file, or it is none of .keras, SavedModel and
      .tflite.
  """
  if not os.path.exists(path):
    raise errors.UsageError(
      f'there is no file or folder {path}: give the path of a model'
    )
  paths.check_regular(path, '--model=')
  if os.path.isdir(path):
    if not os.path.exists(os.path.join(path, 'saved_model.pb')):
      raise errors.UsageError(
        f'{path} is not a SavedModel: --model takes a .keras or .tflite file, '
        'or a folder with saved_model.pb'
      )
    return SavedModelPredictor(path)
  if path.endswith(('.tflite', '.onnx')):
    return device_files.open_file(path)
  model = model_files.load(path)
  checks.check_classifier(model, path)
  return KerasPredictor(standard.standardize(model)[0], given=path)
