"""Accuracy of a Keras model, a SavedModel or a .tflite file on images."""

import abc
import os
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import interpreter as litert

from ft_tf import errors
from ft_tf.data import datasets
from ft_tf.models import standard, zoo

SIGNATURE = 'serving_default'
_BATCH = 250


class Predictor(abc.ABC):
  """A model's inference, from raw images to logits, whatever its format.

  Attributes:
    image_shape: `(H, W, C)` of its images; None where it takes any.
  """

  image_shape: tuple[int | None, int | None, int | None]

  @abc.abstractmethod
  def __call__(self, images: np.ndarray) -> np.ndarray:
    """Returns logits `[B, classes]` float32 of `[B, H, W, C]` uint8."""

  @property
  def image_size(self) -> int:
    """Returns H if the model takes square images of one size, otherwise 0."""
    height, width, _ = self.image_shape
    return height if height is not None and height == width else 0


class KerasPredictor(Predictor):
  """The compiled inference of a Keras model; it moves no variable."""

  def __init__(self, model: keras.Model):
    """Wraps a model of one image input and one logits output."""
    self.image_shape = tuple(model.input_shape[1:])

    @tf.function(reduce_retracing=True)
    def predict(images):
      return tf.cast(model(images, training=False), tf.float32)

    self._predict = predict

  def __call__(self, images: np.ndarray) -> np.ndarray:
    return self._predict(tf.constant(images)).numpy()


class SavedModelPredictor(Predictor):
  """The serving signature of a SavedModel folder."""

  def __init__(self, path: str):
    """Loads the folder.

    Args:
      path: A SavedModel with the signature `serving_default`, of one image
        input and one output.

    Raises:
      UsageError: there is no such signature.
    """
    # The signature does not keep the object it came from alive.
    self._loaded = tf.saved_model.load(path)
    if SIGNATURE not in self._loaded.signatures:
      raise errors.UsageError(
        f'{path} has no signature {SIGNATURE}: give a SavedModel that '
        'bin/export.py left'
      )
    self._serve = self._loaded.signatures[SIGNATURE]
    ((self._name, spec),) = self._serve.structured_input_signature[1].items()
    self.image_shape = tuple(spec.shape[1:])

  def __call__(self, images: np.ndarray) -> np.ndarray:
    (output,) = self._serve(**{self._name: tf.constant(images)}).values()
    return output.numpy()


class LiteRTPredictor(Predictor):
  """Runs a .tflite file; integer logits come back in real numbers.

  Attributes:
    interpreter: LiteRT's.
    input_dtype: The file's own, such as 'uint8'.
    output_dtype: The file's own, such as 'int8'.
    flexible_batch: Whether it takes several images at once.
  """

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
    self.image_shape = tuple(int(n) for n in self._input['shape'][1:])
    self.input_dtype = np.dtype(self._input['dtype']).name
    self.output_dtype = np.dtype(self._output['dtype']).name
    self.flexible_batch = bool(self._input['shape_signature'][0] == -1)

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
    raise errors.UsageError(
      f'there is no file or folder {path}: give the path of a model'
    )
  if os.path.isdir(path):
    if not os.path.exists(os.path.join(path, 'saved_model.pb')):
      raise errors.UsageError(
        f'{path} is not a SavedModel: --model takes a .keras or .tflite file, '
        'or a folder with saved_model.pb'
      )
    return SavedModelPredictor(path)
  if path.endswith('.tflite'):
    return LiteRTPredictor(path)
  model = zoo.load(path)
  zoo.check_classifier(model, path)
  return KerasPredictor(standard.standard(model)[0])


def check_classes(
  predict: Predictor,
  examples: datasets.Examples,
  label_names: Sequence[str],
) -> None:
  """Raises `UsageError` if a model has not as many classes as a data set."""
  classes = predict(examples.images[:1]).shape[-1]
  if classes != len(label_names):
    raise errors.UsageError(
      f'--model has {classes} classes, the data set {len(label_names)}: give '
      'the data set it was trained on'
    )


def in_batches(
  function: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray
) -> np.ndarray:
  """Returns a function's values of many inputs, a batch at a time.

  Args:
    function: From `[B, ...]` to `[B, ...]`, such as a `Predictor`.
    inputs: `[N, ...]`, N at least 1.
  """
  return np.concatenate(
    [
      function(inputs[first : first + _BATCH])
      for first in range(0, len(inputs), _BATCH)
    ]
  )


def logits(predict: Predictor, images: np.ndarray) -> np.ndarray:
  """Returns the logits `[N, classes]` of raw images `[N, H, W, C]` uint8."""
  return in_batches(predict, images)


def score(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
  """Returns accuracy (0..1), mean cross entropy (nats) and their count.

  Args:
    outputs: Logits, `[N, classes]`.
    labels: `[N]`, integers.
  """
  log = _log_probabilities(outputs)
  picked = np.take_along_axis(log, labels[:, None], axis=1)
  return {
    'accuracy': float((outputs.argmax(axis=1) == labels).mean()),
    'loss': float(-picked.mean()),
    'examples': len(labels),
  }


def calibration_error(
  outputs: np.ndarray, labels: np.ndarray, bins: int = 15
) -> float:
  """Returns the expected calibration error, 0..1 (Guo et al. 2017, section 2).

  The difference of confidence and accuracy within equal bins of confidence,
  weighted by the images in each.

  Args:
    outputs: Logits, `[N, classes]`.
    labels: `[N]`, integers.
    bins: Number of bins; 15 in the source.
  """
  probabilities = np.exp(_log_probabilities(outputs))
  confidence = probabilities.max(axis=1)
  right = outputs.argmax(axis=1) == labels
  which = np.minimum(np.int64(np.ceil(confidence * bins)) - 1, bins - 1)
  gaps = np.bincount(which, confidence - right, minlength=bins)
  return float(np.abs(gaps).sum() / len(labels))


def likeness(
  outputs: np.ndarray, teacher_outputs: np.ndarray
) -> dict[str, float]:
  """Returns how alike a student's answers are to its teacher's.

  Args:
    outputs: The student's logits, `[N, classes]`.
    teacher_outputs: The teacher's, likewise.

  Returns:
    `teacher_agreement`, the share of images (0..1) with the same class on top,
    and `teacher_divergence`, the mean KL(teacher || student) in nats.
  """
  ours, theirs = map(_log_probabilities, (outputs, teacher_outputs))
  divergence = (np.exp(theirs) * (theirs - ours)).sum(axis=1)
  same = outputs.argmax(axis=1) == teacher_outputs.argmax(axis=1)
  return {
    'teacher_agreement': float(same.mean()),
    'teacher_divergence': float(divergence.mean()),
  }


def _log_probabilities(outputs):
  """Returns logarithms of the softmax of logits, in float64."""
  outputs = outputs.astype(np.float64)
  shifted = outputs - outputs.max(axis=1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def evaluate(
  predict: Predictor, examples: datasets.Examples
) -> dict[str, float | int]:
  """Returns `score` of a predictor on labelled images.

  Raises:
    UsageError: the model takes other images or has other classes.
  """
  shape = examples.images.shape[1:]
  if len(shape) != len(predict.image_shape) or any(
    takes not in (None, has)
    for takes, has in zip(predict.image_shape, shape, strict=True)
  ):
    raise errors.UsageError(
      f'the model does not take images {shape} but {predict.image_shape}: give '
      'the --dataset it was trained on'
    )
  outputs = logits(predict, examples.images)
  if examples.labels.max() >= outputs.shape[1]:
    raise errors.UsageError(
      f'the model has {outputs.shape[1]} classes, the data set more: give the '
      '--dataset it was trained on'
    )
  return score(outputs, examples.labels)
