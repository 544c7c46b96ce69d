"""A classifier's end: from probabilities to logits, or to other classes."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from ft_tf import errors
from ft_tf.models import graph

_LEAST = 1e-7  # probability, of which a logarithm is taken
# The layer after an activation that stays; files carry it, so that a saved
# model is not asked again. Its name is part of saved files: do not change it.
_AS_TOLD = 'logits_as_told'
# Keras's layers whose `activation` is the last thing that they do.
_ACTIVATED = (
  keras.layers.Activation,
  keras.layers.Conv2D,
  keras.layers.Dense,
  keras.layers.EinsumDense,
)
# These change at inference no value, nor the order of values.
_HARMLESS = (
  keras.layers.Dropout,
  keras.layers.Flatten,
  keras.layers.GaussianDropout,
  keras.layers.GaussianNoise,
  keras.layers.Identity,
  keras.layers.Reshape,
)
_HARMLESS_OPERATIONS = {'cast', 'identity', 'reshape', 'squeeze'}
# What may follow a classifier's last layer besides these.
_ACTIVATIONS = (keras.layers.Activation, keras.layers.Softmax)
_ACTIVATION_OPERATIONS = {'logsoftmax', 'sigmoid', 'softmax'}


def to_logits(
  model: keras.Model, outputs: str = 'auto'
) -> tuple[keras.Model | None, list[str]]:
  """Returns a flat model with logits in place of probabilities.

  Args:
    model: See `standard.flatten`.
    outputs: What the model returns: `logits`; `probabilities`; or `auto`, which
      looks for a softmax or sigmoid at the end, whatever harmless operations
      follow it. It is removed. Probabilities that no softmax makes get a
      logarithm, which serves as well to whoever takes a softmax of it.
      An activation that is declared to return `logits` gets a layer after it
      that does nothing, so that the model's file says so too. A single output
      z, of two classes, becomes the logits 0 and z, whose softmax has
      sigmoid(z) for the second class.

  Returns:
    The model, sharing its layers, None if it returns logits as it stands; and
    what was changed, in words.
  """
  (image,), (given,) = model.inputs, model.outputs
  end, tail = _end(model)
  kind = _activation(end)
  y, changes = given, []
  is_single = given.shape[-1] == 1
  if outputs == 'logits':
    if kind:
      changes.append(
        f'the outputs of its last layer, a {kind}, are used as logits, as given'
      )
      y = keras.layers.Activation('linear', name=_AS_TOLD)(y)
  elif kind == 'softmax' or (
    kind == 'sigmoid' and (outputs == 'auto' or is_single)
  ):
    changes.append(
      'gives probabilities; its logits are used instead'
      if kind == 'softmax'
      else 'ends in a sigmoid; the inputs of the sigmoid are used as logits'
    )
    y = _without_activation(end)
    for operation in reversed(tail):
      y = operation(y)
  elif outputs == 'probabilities':
    changes.append('gives probabilities; their logarithms are used as logits')
    y = ops.log(ops.maximum(given, _LEAST))
    if is_single:
      y = y - ops.log(ops.maximum(1 - given, _LEAST))
  if is_single:
    changes.append(
      'its single output z is used as the logits [0, z]: a high z means the '
      'second class'
    )
    y = ops.pad(y, ((0, 0), (1, 0)))
  if y is given:
    return None, changes
  return keras.Model(image, y, name=model.name), changes


def _end(model: keras.Model) -> tuple[keras.KerasTensor, list[keras.Operation]]:
  """Returns the last tensor that is not just another one's values.

  Harmless operations follow it, which are returned too, the last first.
  """
  (y,) = model.outputs
  tail = []
  while not _activation(y) and _is_harmless(graph.producer(y).operation):
    call = graph.producer(y)
    tail.append(call.operation)
    (y,) = call.inputs
  return y, tail


def _activation(tensor: keras.KerasTensor) -> str:
  """Returns `softmax` or `sigmoid` if that, over classes, made a tensor."""
  operation = graph.producer(tensor).operation
  kind = ''
  if isinstance(operation, keras.layers.Softmax):
    kind = 'softmax'
  elif isinstance(operation, _ACTIVATED):
    kind = getattr(operation.activation, '__name__', '')
  elif not isinstance(operation, keras.layers.Layer):
    kind = _operation_name(operation)
  if kind == 'softmax':
    # One inside the network, as of attention, is not over all the values of an
    # example.
    axis = getattr(operation, 'axis', -1)
    classes = tensor.shape[-1]
    alone = classes == math.prod(size or 0 for size in tensor.shape[1:])
    return kind if alone and axis in (-1, len(tensor.shape) - 1) else ''
  return kind if kind == 'sigmoid' else ''


def _is_harmless(operation: keras.Operation) -> bool:
  if operation.name.endswith(_AS_TOLD):
    return False
  if isinstance(operation, keras.layers.Activation):
    return operation.activation is keras.activations.linear
  if isinstance(operation, keras.layers.Layer):
    return isinstance(operation, _HARMLESS)
  return _operation_name(operation) in _HARMLESS_OPERATIONS


def _operation_name(operation: keras.Operation) -> str:
  """Returns the name of an operation of keras.ops; '' of any other."""
  if not graph.is_of_keras(operation):
    return ''
  return type(operation).__name__.lower()


def _without_activation(tensor: keras.KerasTensor) -> keras.KerasTensor:
  """Returns a tensor as it was before the activation that made it."""
  call = graph.producer(tensor)
  operation, (x,) = call.operation, call.inputs
  if not isinstance(operation, _ACTIVATED) or isinstance(
    operation, keras.layers.Activation
  ):
    return x  # The activation is an operation of its own.
  twin = type(operation).from_config(
    {**operation.get_config(), 'activation': 'linear'}
  )
  y = twin(x)
  # Not get_weights: their order is another if a layer was quantized or adapted
  # after it was built.
  weights: dict[str, Any] = {}
  operation.save_own_variables(weights)
  twin.load_own_variables(weights)
  return y


def with_new_head(model: keras.Model, classes: int, what: str) -> keras.Model:
  """Returns a classifier of other classes: its last layer is a fresh one.

  That is the last dense layer, or convolution to a map of 1x1, before whatever
  has no weights, such as a softmax. What follows it is left out: the result
  gives logits. The other layers are shared with the model.

  Args:
    model: See `standard.flatten`.
    classes: Number of logits.
    what: How messages call the model.

  Raises:
    UsageError: the model does not end in such a layer.
  """
  (given,) = model.outputs
  call = _last_call(model)
  last = call.operation
  sizes = {
    keras.layers.Dense: 'units',
    keras.layers.Conv2D: 'filters',
  }
  (y,) = call.outputs
  values = math.prod(size or 0 for size in y.shape[1:])
  if type(last) not in sizes or values != given.shape[-1]:
    raise errors.UsageError(
      f'{what} ends in {last.name}, which --new_head cannot replace: give a '
      'model that ends in a dense layer, or in a convolution to 1x1'
    )
  config = {
    **last.get_config(),
    sizes[type(last)]: classes,
    'activation': 'linear',
    'dtype': 'float32',
    # Not the model's own, which may draw the same values for every seed.
    'kernel_initializer': 'glorot_uniform',
    'bias_initializer': 'zeros',
    'trainable': True,
  }
  config.pop('lora_rank', None)
  y = type(last).from_config(config)(call.inputs[0])
  if len(y.shape) > 2:
    y = keras.layers.Flatten(name='new_head_flat')(y)
  return keras.Model(model.inputs[0], y, name=model.name)


def linear_layer(
  model: keras.Model,
) -> tuple[keras.KerasTensor, keras.layers.Layer] | None:
  """Returns the last layer if logits are linear in its input, and that input.

  It is a dense layer of vectors `[B, F]`, or a convolution whose kernel covers
  a whole map `[B, h, w, C]`, with a bias; it has no other weights.

  Args:
    model: From images to logits; see `standard.flatten`.

  Returns:
    The input and the layer; None: the model does not end so.
  """
  (given,) = model.outputs
  call = graph.producer(given)
  while _is_harmless(call.operation):
    call = graph.producer(call.inputs[0])
  last = call.operation
  if type(last) not in (keras.layers.Dense, keras.layers.Conv2D):
    return None
  (x,), (y,), kernel = call.inputs, call.outputs, last.kernel.shape
  is_linear = (
    last.activation is keras.activations.linear
    and math.prod(size or 0 for size in y.shape[1:]) == given.shape[-1]
    and tuple(x.shape[1:]) == tuple(kernel[:-1])
    and len(last.weights) == len(('kernel', 'bias'))
  )
  return (x, last) if is_linear else None


def last_layer(model: keras.Model) -> keras.layers.Layer:
  """Returns the layer that makes the logits, as of `with_new_head`."""
  return _last_call(model).operation


def _last_call(model: keras.Model) -> graph.Call:
  """Returns the last call of what may have weights."""
  call = graph.producer(model.outputs[0])
  while _has_no_weights(call.operation):
    call = graph.producer(call.inputs[0])
  return call


def _has_no_weights(operation: keras.Operation) -> bool:
  """Tells whether an operation may follow a classifier's last layer."""
  return (
    isinstance(operation, _ACTIVATIONS)
    or _is_harmless(operation)
    or _operation_name(operation) in _ACTIVATION_OPERATIONS
  )


def look_like_probabilities(outputs: np.ndarray, rounding: float = 0.0) -> bool:
  """Tells whether rows `[B, classes]` are all of 0 to 1, as logits are not.

  They add up to 1, as of a softmax, or one is above 0.5, as of a sigmoid that
  takes an image for one of its class.

  Args:
    outputs: A model's.
    rounding: What the sum of a row may be off by because values are rounded.
  """
  within = (outputs >= 0).all() and (outputs <= 1).all()
  sums = np.allclose(outputs.sum(axis=1), 1, atol=1e-3 + rounding)
  return bool(within and (sums or outputs.max() > 0.5))
