"""Accuracy of a Keras model, a SavedModel or a .tflite file on images."""

import os
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import interpreter as litert

from ft_tf import errors
from ft_tf.data import datasets
from ft_tf.models import zoo

# From raw images [B, H, W, C] uint8 to logits [B, classes] float32.
Predictor = Callable[[np.ndarray], np.ndarray]

SIGNATURE = 'serving_default'
_BATCH = 250


def keras_predictor(model: keras.Model) -> Predictor:
  """Returns the compiled inference of a model, which moves no variable."""

  @tf.function(reduce_retracing=True)
  def predict(images):
    return tf.cast(model(images, training=False), tf.float32)

  return lambda images: predict(tf.constant(images)).numpy()


def saved_model_predictor(path: str) -> Predictor:
  """Returns the serving signature of a SavedModel folder."""
  loaded = tf.saved_model.load(path)
  serve = loaded.signatures[SIGNATURE]
  (name,) = serve.structured_input_signature[1]

  def predict(images):
    (output,) = serve(**{name: tf.constant(images)}).values()
    return output.numpy()

  # The signature does not keep the object it came from alive.
  predict.loaded = loaded
  return predict


class LiteRTPredictor:
  """Runs a .tflite file; integer logits come back in real numbers."""

  def __init__(self, path: str, *, threads: int | None = None):
    """Reads the file.

    Args:
      path: A .tflite file with one image input and one logits output.
      threads: CPU threads of the interpreter; all cores if None.

    Raises:
      UsageError: the file does not load.
    """
    try:
      self.interpreter = litert.Interpreter(
        model_path=path, num_threads=threads or os.cpu_count()
      )
      self.interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
      raise errors.UsageError(
        f'{path} does not load in LiteRT ({str(error).splitlines()[0]}): give '
        'a .tflite file'
      ) from error
    (self._input,) = self.interpreter.get_input_details()
    (self._output,) = self.interpreter.get_output_details()
    self._batch = int(self._input['shape'][0])
    self.input_dtype = np.dtype(self._input['dtype']).name
    self.output_dtype = np.dtype(self._output['dtype']).name
    self.flexible_batch = self._input['shape_signature'][0] == -1

  def __call__(self, images: np.ndarray) -> np.ndarray:
    if self.flexible_batch:
      return self._run(images)
    return np.concatenate([self._run(image[None]) for image in images])

  def _run(self, images):
    if len(images) != self._batch:
      self.interpreter.resize_tensor_input(
        self._input['index'], [len(images), *images.shape[1:]]
      )
      self.interpreter.allocate_tensors()
      self._batch = len(images)
    self.interpreter.set_tensor(
      self._input['index'], images.astype(self._input['dtype'])
    )
    self.interpreter.invoke()
    output = self.interpreter.get_tensor(self._output['index'])
    scale, zero = self._output['quantization']
    if scale:
      return (output.astype(np.float32) - zero) * np.float32(scale)
    return output.astype(np.float32)


def predictor(path: str) -> Predictor:
  """Returns the predictor of a model file or folder, by its kind.

  Raises:
    UsageError: there is no such file, or it is none of .keras, SavedModel and
      .tflite.
  """
  if not os.path.exists(path):
    raise errors.UsageError(f'there is no file or folder {path}: give --model')
  if os.path.isdir(path):
    if not os.path.exists(os.path.join(path, 'saved_model.pb')):
      raise errors.UsageError(
        f'{path} is not a SavedModel: --model takes a .keras or .tflite file, '
        'or a folder with saved_model.pb'
      )
    return saved_model_predictor(path)
  if path.endswith('.tflite'):
    return LiteRTPredictor(path)
  return keras_predictor(zoo.load(path))


def logits(predict: Predictor, images: np.ndarray) -> np.ndarray:
  """Returns the logits `[N, classes]` of raw images `[N, H, W, C]` uint8."""
  return np.concatenate(
    [
      predict(images[first : first + _BATCH])
      for first in range(0, len(images), _BATCH)
    ]
  )


def score(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
  """Returns accuracy (0..1), mean cross entropy (nats) and their count.

  Args:
    outputs: Logits, `[N, classes]`.
    labels: `[N]`, integers.
  """
  outputs = outputs.astype(np.float64)
  shifted = outputs - outputs.max(axis=1, keepdims=True)
  log_sum = np.log(np.exp(shifted).sum(axis=1))
  picked = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
  return {
    'accuracy': float((outputs.argmax(axis=1) == labels).mean()),
    'loss': float((log_sum - picked).mean()),
    'examples': len(labels),
  }


def evaluate(
  predict: Predictor, examples: datasets.Examples
) -> dict[str, float | int]:
  """Returns `score` of a predictor on labelled images.

  Raises:
    UsageError: the model takes other images or has other classes.
  """
  try:
    outputs = logits(predict, examples.images)
  except (ValueError, tf.errors.InvalidArgumentError) as error:
    raise errors.UsageError(
      f'the model does not take images {examples.images.shape[1:]} uint8: give '
      'the --dataset it was trained on, or its --image_size'
    ) from error
  if examples.labels.max() >= outputs.shape[1]:
    raise errors.UsageError(
      f'the model has {outputs.shape[1]} classes, the data set more: give the '
      '--dataset it was trained on'
    )
  return score(outputs, examples.labels)
