"""Anyone's classifier made like ours: raw images in, logits out, flat."""

import math

import keras
import numpy as np
from keras import ops

from ft_tf import catalogue, errors
from ft_tf.models import graph, layers

_LEAST = 1e-7  # probability
_AS_TOLD = 'logits_as_told'  # behind an activation that stays
# Keras's layers whose `activation` is the last thing that they do.
_ACTIVATED = (
  keras.layers.Activation,
  keras.layers.Conv2D,
  keras.layers.Dense,
  keras.layers.EinsumDense,
)
# What changes no value at inference, nor the order of values.
_HARMLESS = (
  keras.layers.Dropout,
  keras.layers.Flatten,
  keras.layers.GaussianDropout,
  keras.layers.GaussianNoise,
  keras.layers.Identity,
  keras.layers.Reshape,
)
_HARMLESS_OPERATIONS = {'cast', 'identity', 'reshape', 'squeeze'}


def standard(
  model: keras.Model,
  *,
  outputs: str = 'auto',
  preprocessing: str = 'none',
  image_shape: tuple[int, int, int] | None = None,
) -> tuple[keras.Model, list[str]]:
  """Returns a model from raw images to logits without models in it.

  Args:
    model: A classifier of one input and one output.
    outputs: As of `logits_of`.
    preprocessing: As of `flat`.
    image_shape: As of `flat`.

  Returns:
    The model, itself if it is so already, and what was done in words.

  Raises:
    UsageError: it does not compute images of that shape, or batches.
  """
  said = []
  if not getattr(model, 'inputs', None):
    return model, said  # subclassed: it cannot be looked into
  batch, *own = model.inputs[0].shape
  if batch is not None:
    said.append(f'fixed batch size {batch} replaced by any batch size')
  if image_shape and None in own:
    size = 'x'.join(map(str, image_shape))
    said.append(f'open image size set to {size}')
  if is_nested(model):
    said.append('models within opened')
  if preprocessing != 'none':
    said.append(f'preprocessing {preprocessing}')
  if said:
    model = flat(model, preprocessing, image_shape)
  made, lines = _to_logits(model, outputs)
  return made or model, said + lines


def flat(
  model: keras.Model,
  preprocessing: str = 'none',
  image_shape: tuple[int, int, int] | None = None,
) -> keras.Model:
  """Returns a model without models in it, sharing its layers.

  A layer `conv` of a nested model `backbone` is called `backbone.conv` then.
  The model takes batches of any size.

  Args:
    model: Functional or Sequential, of one input and one output. Nested models
      of several inputs stay layers, as do subclassed ones.
    preprocessing: What is done to raw images first: `none`; `0..1` or `-1..1`,
      scaling to that range; `imagenet`, scaling to 0..1 and normalisation
      with ImageNet's mean and deviation; or `caffe`, blue first and ImageNet's
      mean taken off, as keras.applications has it for ResNet and VGG.
    image_shape: `(H, W, C)` for what the model leaves open; None: it stays so.

  Raises:
    UsageError: the preprocessing is for images of 3 channels and these are not,
      or the model does not compute images of that shape, or batches.
  """
  sizes = model.inputs[0].shape[1:]
  if image_shape:
    sizes = [
      given if own is None else own
      for own, given in zip(sizes, image_shape, strict=True)
    ]
  raw = preprocessing != 'none'
  image = keras.Input(
    tuple(sizes),
    dtype='uint8' if raw else model.inputs[0].dtype,
    name='raw_image' if raw else None,
  )
  x = _preprocessed(image, preprocessing) if raw else image
  try:
    (y,) = _run(model, [x], '')
  except ValueError as error:
    if image.shape == model.inputs[0].shape:
      raise
    reason = str(error).strip().splitlines()[0]
    raise errors.UsageError(
      f'{model.name} does not accept batches of images of {tuple(sizes)} '
      f'({reason}): give another --image_size, or a model built with an Input '
      'of that shape and no batch_size'
    ) from error
  if y.shape[0] is not None:
    raise errors.UsageError(
      f'{model.name} only accepts batches of {y.shape[0]}: give a model built '
      'without batch_size, whose operations accept any'
    )
  return keras.Model(image, y, name=model.name)


def _preprocessed(image, kind) -> keras.KerasTensor:
  """Returns raw images as a `preprocessing` of `flat` makes them."""
  name = 'preprocessing'
  if kind == '0..1':
    return keras.layers.Rescaling(1 / 255, name=name)(image)
  if kind == '-1..1':
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name=name)(image)
  if image.shape[-1] != 3:
    raise errors.UsageError(
      f'--preprocessing={kind} is for images of 3 channels, these have '
      f'{image.shape[-1]}: give none, 0..1 or -1..1'
    )
  if kind == 'imagenet':  # keras.applications' mode "torch"
    return layers.normalization(**catalogue.IMAGENET, name=name)(image)
  x = layers.normalization(**catalogue.CAFFE, name=name)(image)
  return ops.flip(x, axis=-1)


def _run(model, tensors, prefix) -> list[keras.KerasTensor]:
  """Returns what a model makes of tensors, its layers called one by one."""

  def call(operation):
    if _opens(operation):
      return lambda *args, **kwargs: _run(
        operation,
        [
          each
          for each in keras.tree.flatten((args, kwargs))
          if isinstance(each, keras.KerasTensor)
        ],
        f'{prefix}{operation.name}.',
      )
    if prefix and not operation.name.startswith(prefix):
      operation.name = prefix + operation.name
    return operation

  return graph.run(model, tensors, call)


def _opens(operation) -> bool:
  """Tells whether an operation is a model to look into."""
  return (
    graph.is_plain_model(operation)
    and len(getattr(operation, 'inputs', None) or ()) == 1
  )


def is_nested(model: keras.Model) -> bool:
  """Tells whether a model has models in it that `flat` would open."""
  return any(_opens(layer) for layer in model.layers)


def logits_of(model: keras.Model, outputs: str = 'auto') -> keras.Model | None:
  """Returns a flat model with logits in place of probabilities.

  Args:
    model: As of `flat`.
    outputs: What it gives: `logits`; `probabilities`; or `auto`, which sees a
      softmax or sigmoid at the end, whatever harmless operations are behind it.
      It is taken off; what gives probabilities without a softmax gets a
      logarithm, which is as good to whoever takes a softmax.
      An activation that gives `logits` all the same gets a layer behind it that
      does nothing, so that the model's file says so too. One output z, of two
      classes, becomes the logits 0 and z, whose softmax has sigmoid(z) for the
      second class.

  Returns:
    The model, sharing its layers; None if it gives logits as it stands.
  """
  return _to_logits(model, outputs)[0]


def _to_logits(model, outputs) -> tuple[keras.Model | None, list[str]]:
  """Returns the value of `logits_of`, and what was done in words."""
  (image,), (given,) = model.inputs, model.outputs
  end, tail = _end(model)
  kind = _activation(end)
  y, said = given, []
  one = given.shape[-1] == 1
  if outputs == 'logits':
    if kind:
      said.append(
        f'what looks like a {kind} at its end is taken for logits, as told'
      )
      y = keras.layers.Activation('linear', name=_AS_TOLD)(y)
  elif kind == 'softmax' or (kind == 'sigmoid' and (outputs == 'auto' or one)):
    said.append(
      'gives probabilities; logits are taken instead'
      if kind == 'softmax'
      else 'ends in a sigmoid; the inputs of the sigmoid are used as logits'
    )
    y = _without_activation(end)
    for operation in reversed(tail):
      y = operation(y)
  elif outputs == 'probabilities':
    said.append('gives probabilities; logits are taken instead')
    y = ops.log(ops.maximum(given, _LEAST))
    if one:
      y = y - ops.log(ops.maximum(1 - given, _LEAST))
  if one:
    said.append(
      'its single output z is used as the logits [0, z]: a high z means the '
      'second class'
    )
    y = ops.pad(y, ((0, 0), (1, 0)))
  if y is given:
    return None, said
  return keras.Model(image, y, name=model.name), said


def _end(model) -> tuple[keras.KerasTensor, list[keras.Operation]]:
  """Returns the last tensor that is more than another's values.

  Behind it are harmless operations, which are returned too, the last first.
  """
  (y,) = model.outputs
  tail = []
  while not _activation(y) and _is_harmless(graph.producer(y).operation):
    call = graph.producer(y)
    tail.append(call.operation)
    (y,) = call.inputs
  return y, tail


def _activation(tensor) -> str:
  """Returns what made a tensor, if it is `softmax` or `sigmoid` of classes."""
  operation = graph.producer(tensor).operation
  kind = ''
  if isinstance(operation, keras.layers.Softmax):
    kind = 'softmax'
  elif isinstance(operation, _ACTIVATED):
    kind = getattr(operation.activation, '__name__', '')
  elif not isinstance(operation, keras.layers.Layer):
    kind = _name_of(operation)
  if kind == 'softmax':
    # Over all values of an example.
    axis = getattr(operation, 'axis', -1)
    classes = tensor.shape[-1]
    alone = classes == math.prod(size or 0 for size in tensor.shape[1:])
    return kind if alone and axis in (-1, len(tensor.shape) - 1) else ''
  return kind if kind == 'sigmoid' else ''


def _is_harmless(operation) -> bool:
  if operation.name.endswith(_AS_TOLD):
    return False
  if isinstance(operation, keras.layers.Activation):
    return operation.activation is keras.activations.linear
  if isinstance(operation, keras.layers.Layer):
    return isinstance(operation, _HARMLESS)
  return _name_of(operation) in _HARMLESS_OPERATIONS


def _name_of(operation) -> str:
  """Returns the name of an operation of keras.ops; '' of any other."""
  of_keras = graph.is_of_keras(operation)
  return type(operation).__name__.lower() if of_keras else ''


def _without_activation(tensor) -> keras.KerasTensor:
  """Returns a tensor as it was before the activation that made it."""
  call = graph.producer(tensor)
  operation, (x,) = call.operation, call.inputs
  if not isinstance(operation, _ACTIVATED) or isinstance(
    operation, keras.layers.Activation
  ):
    return x
  twin = type(operation).from_config(
    {**operation.get_config(), 'activation': 'linear'}
  )
  y = twin(x)
  # Not get_weights: their order is another if a layer was quantized or adapted
  # after it was built.
  weights = {}
  operation.save_own_variables(weights)
  twin.load_own_variables(weights)
  return y


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
