"""Anyone's classifier made like ours: raw images in, logits out, flat."""

import functools

import keras
import numpy as np
from keras import ops

from ft_tf import catalogue, errors
from ft_tf.models import layers

_LEAST = 1e-7  # probability


def standard(
  model: keras.Model, *, outputs: str = 'auto', preprocessing: str = 'none'
) -> tuple[keras.Model, list[str]]:
  """Returns a model from raw images to logits without models in it.

  Args:
    model: A classifier of one input and one output.
    outputs: As of `logits_of`.
    preprocessing: As of `flat`.

  Returns:
    The model, itself if it is so already, and what was done in words.
  """
  said = []
  if not getattr(model, 'inputs', None):
    return model, said  # subclassed: it cannot be looked into
  if is_nested(model):
    said.append('models within opened')
  if preprocessing != 'none':
    said.append(f'preprocessing {preprocessing}')
  if said:
    model = flat(model, preprocessing)
  made = logits_of(model, outputs)
  if made is not None:
    said.append(
      'what looks like a softmax at its end is taken for logits, as told'
      if outputs == 'logits'
      else 'gives probabilities; logits are taken instead'
    )
    model = made
  return model, said


def flat(model: keras.Model, preprocessing: str = 'none') -> keras.Model:
  """Returns a model without models in it, sharing its layers.

  A layer `conv` of a nested model `backbone` is called `backbone.conv` then.

  Args:
    model: Functional or Sequential, of one input and one output. Nested models
      of more stay layers, as do subclassed ones.
    preprocessing: What is done to raw images first: `none`; `0..1` or `-1..1`,
      scaling to that range; or `imagenet`, scaling to 0..1 and normalisation
      with ImageNet's mean and deviation.

  Raises:
    UsageError: ImageNet's are asked for images of other than 3 channels.
  """
  if preprocessing == 'none':
    image = keras.Input(
      batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype
    )
    x = image
  else:
    image = keras.Input(
      batch_shape=model.inputs[0].shape, dtype='uint8', name='raw_image'
    )
    if preprocessing == 'imagenet' and image.shape[-1] != 3:
      raise errors.UsageError(
        '--preprocessing=imagenet is for images of 3 channels, these have '
        f'{image.shape[-1]}: give none, 0..1 or -1..1'
      )
    x = _preprocessing(preprocessing)(image)
  return keras.Model(image, _run(model, x, ''), name=model.name)


def _preprocessing(kind) -> keras.layers.Layer:
  name = 'preprocessing'
  if kind == '0..1':
    return keras.layers.Rescaling(1 / 255, name=name)
  if kind == '-1..1':
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name=name)
  # keras.applications' mode "torch".
  return layers.normalization(**catalogue.IMAGENET, name=name)


def _run(model, x, prefix):
  """Returns what a model makes of a tensor, its layers called one by one."""

  def call(operation):
    if _opens(operation):
      return lambda x, **_: _run(operation, x, f'{prefix}{operation.name}.')
    if prefix and not operation.name.startswith(prefix):
      operation.name = prefix + operation.name
    return operation

  graph = keras.Model(model.inputs, model.outputs)
  (y,) = graph._run_through_graph([x], operation_fn=call)
  return y


def _opens(operation) -> bool:
  """Tells whether an operation is a model to look into."""
  return (
    type(operation) in (keras.Sequential, keras.Model, _functional())
    and bool(getattr(operation, 'inputs', None))
    and len(operation.inputs) == len(operation.outputs) == 1
  )


@functools.cache
def _functional():
  """Returns the class of functional models, which Keras does not export."""
  x = keras.Input((1,))
  return type(keras.Model(x, x))


def is_nested(model: keras.Model) -> bool:
  """Tells whether a model has models in it that `flat` would open."""
  return any(_opens(layer) for layer in model.layers)


def logits_of(model: keras.Model, outputs: str = 'auto') -> keras.Model | None:
  """Returns a flat model with logits in place of probabilities.

  Args:
    model: As of `flat`.
    outputs: What it gives: `logits`; `probabilities`; or `auto`, which sees a
      softmax at the end. A softmax is taken off; what gives probabilities
      without one gets a logarithm, which is as good to whoever takes a softmax.
      A softmax that gives `logits` all the same gets a layer behind it that
      does nothing, so that the model's file says so too.

  Returns:
    The model, sharing its layers; None if it gives logits as it stands.
  """
  (y,) = model.outputs
  operation, index, _ = y._keras_history
  node = operation._inbound_nodes[index]
  (image,) = model.inputs
  softmax = isinstance(operation, keras.layers.Softmax) or (
    isinstance(operation, (keras.layers.Activation, keras.layers.Dense))
    and operation.activation is keras.activations.softmax
  )
  if outputs == 'logits':
    if not softmax:
      return None
    y = keras.layers.Activation('linear', name='logits_as_told')(y)
    return keras.Model(image, y, name=model.name)
  if softmax and isinstance(operation, keras.layers.Dense):
    twin = keras.layers.Dense.from_config(
      {**operation.get_config(), 'activation': 'linear'}
    )
    y = twin(node.input_tensors[0])
    twin.set_weights(operation.get_weights())
    return keras.Model(image, y, name=model.name)
  if softmax:
    return keras.Model(image, node.input_tensors[0], name=model.name)
  if outputs == 'probabilities':
    y = ops.log(ops.maximum(y, _LEAST))
    return keras.Model(image, y, name=model.name)
  return None


def look_like_probabilities(outputs: np.ndarray, rounding: float = 0.0) -> bool:
  """Tells whether rows `[B, classes]` are above 0 and add up to 1.

  Args:
    outputs: A model's.
    rounding: What the sum of a row may be off by because values are rounded.
  """
  sums = outputs.sum(axis=1)
  return bool(
    (outputs >= 0).all() and np.allclose(sums, 1, atol=1e-3 + rounding)
  )
