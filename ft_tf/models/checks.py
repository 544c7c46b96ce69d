"""What a given model must be to work as a teacher or student here."""

import keras
import numpy as np

from ft_tf import errors
from ft_tf.models import graph


def check_takes_images(model: keras.Model, what: str) -> None:
  """Raises `UsageError` if a model does not take images and nothing else.

  Args:
    model: The model.
    what: How the message calls it.
  """
  inputs = getattr(model, 'inputs', None) or []
  if len(inputs) != 1 or len(inputs[0].shape) != 4:
    raise errors.UsageError(
      f'{what} must take images [B, H, W, C] and nothing else, it takes '
      f'{[each.shape for each in inputs]}: give a functional or Sequential '
      'model of one Input'
    )


def check_classifier(model: keras.Model, what: str) -> None:
  """Raises `UsageError` if a model is not one of images to logits.

  Args:
    model: The model.
    what: How the message calls it.
  """
  check_takes_images(model, what)
  try:
    outputs = model.compute_output_spec(model.inputs[0])
  except Exception as error:  # Layers raise many kinds.
    raise errors.UsageError(
      f'{what} does not compute on images of its own input '
      f'({errors.first_line(error)}): give '
      'a model that predict runs on'
    ) from error
  if not isinstance(outputs, keras.KerasTensor) or len(outputs.shape) != 2:
    raise errors.UsageError(
      f'{what} must give logits [B, classes] and nothing else: give '
      'keras.Model(model.input, logits)'
    )


def check_fits(
  model: keras.Model,
  what: str,
  *,
  image_shape: tuple[int, int, int],
  label_names: list[str],
  size_flags: str = '--image_size',
  classes_fix: str = 'give the data set it was trained on',
) -> None:
  """Raises `UsageError` if a given model is not one for the data set.

  Args:
    model: The model.
    what: How the message calls it.
    image_shape: `(H, W, C)` of the data set's images.
    label_names: The data set's classes.
    size_flags: The flag or flags that change the size of the model's images.
    classes_fix: What helps if it has other classes, in the words of a message.
  """
  check_fits_images(model, what, image_shape=image_shape, size_flags=size_flags)
  if has_classes(model, len(label_names)):
    return
  classes = model.outputs[0].shape[-1]
  if classes == 1:
    raise errors.UsageError(
      f'{what} has one output, the data set {len(label_names)} classes: give a '
      'model with an output for each class'
    )
  raise errors.UsageError(
    f'{what} has {classes} classes, the data set {len(label_names)}: '
    + classes_fix
  )


def has_classes(model: keras.Model, classes: int) -> bool:
  """Tells whether a classifier serves for a number of classes.

  One of a single output serves for two: `heads.to_logits` makes two logits.
  """
  outputs = model.outputs[0].shape[-1]
  return outputs == classes or (outputs, classes) == (1, 2)


def check_fits_images(
  model: keras.Model,
  what: str,
  *,
  image_shape: tuple[int, int, int],
  size_flags: str,
) -> None:
  """Raises `UsageError` if a model is no classifier of the data set's images.

  Args:
    model: The model.
    what: As of `check_fits`, like the others.
    image_shape: `(H, W, C)` of the data set's images.
    size_flags: The flag or flags that change the size of the model's images.
  """
  check_classifier(model, what)
  input_shape = model.inputs[0].shape[1:]
  height, width, channels = image_shape
  if input_shape == (channels, height, width) != image_shape:
    raise errors.UsageError(
      f'{what} takes channels-first images, {input_shape}: give a model of '
      '[B, H, W, C], such as this one after keras.layers.Permute((3, 1, 2))'
    )
  if any(
    size not in (None, given)
    for size, given in zip(input_shape, image_shape, strict=True)
  ):
    raise errors.UsageError(
      f'{what} takes images of {input_shape}, the data set has {image_shape}: '
      f'give the data set it was trained on, or its {size_flags}'
    )


def check_finite(model: keras.Model, path: str) -> None:
  """Raises `UsageError` if a weight of a loaded model is nan or infinite."""
  for weight in model.weights:
    values = keras.ops.convert_to_numpy(weight)
    if values.dtype.kind in 'fV' and not np.isfinite(values).all():
      raise errors.UsageError(
        f'{path} has values in {weight.path} that are not finite (nan or '
        'infinity): give a file from before its training diverged'
      )


def check_not_quantized(model: keras.Model, what: str) -> None:
  """Raises `UsageError` if a model is one that `model.quantize` made.

  Such a model is neither trained nor converted here.

  Args:
    model: The model.
    what: How the message calls it.
  """
  for layer in graph.flat_layers(model):
    mode = getattr(layer, 'quantization_mode', None)
    if mode:
      raise errors.UsageError(
        f'{what} is quantized by Keras ({mode} in {layer.name}) and cannot be '
        'trained or converted: give the model from before model.quantize'
      )
