"""Any classifier in the form of our networks: raw images to logits, flat."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
from keras import ops

from ft_tf import catalogue, errors
from ft_tf.models import graph, heads, layers


def standardize(
  model: keras.Model,
  *,
  outputs: str = 'auto',
  preprocessing: str = 'none',
  image_shape: tuple[int, int, int] | None = None,
) -> tuple[keras.Model, list[str]]:
  """Returns a model from raw images to logits without nested models.

  Args:
    model: A classifier of one input and one output.
    outputs: See `heads.to_logits`.
    preprocessing: See `flatten`.
    image_shape: See `flatten`.

  Returns:
    The model, itself if it has that form, and what was changed, in words.

  Raises:
    UsageError: it does not compute images of that shape, or batches.
  """
  changes: list[str] = []
  if not getattr(model, 'inputs', None):
    return model, changes  # A subclassed model has no graph to change.
  batch, *image_sizes = model.inputs[0].shape
  if batch is not None:
    changes.append(f'fixed batch size {batch} replaced by any batch size')
  if image_shape and None in image_sizes:
    size = 'x'.join(map(str, image_shape))
    changes.append(f'open image size set to {size}')
  if is_nested(model):
    changes.append('nested models replaced by their layers')
  if preprocessing != 'none':
    changes.append(f'preprocessing {preprocessing} added')
  if changes:
    model = flatten(model, preprocessing, image_shape)
  with_logits, head_changes = heads.to_logits(model, outputs)
  return with_logits or model, changes + head_changes


def flatten(
  model: keras.Model,
  preprocessing: str = 'none',
  image_shape: tuple[int, int, int] | None = None,
) -> keras.Model:
  """Returns a model without nested models, sharing its layers.

  A layer `conv` of a nested model `backbone` is then called `backbone.conv`.
  The model takes batches of any size.

  Args:
    model: Functional or Sequential, of one input. Nested models of several
      inputs stay layers, as do subclassed ones.
    preprocessing: What is done to raw images first: `none`; `0..1` or `-1..1`,
      scaling to that range; `imagenet`, scaling to 0..1 and normalisation
      with ImageNet's mean and deviation; or `caffe`, blue first and ImageNet's
      mean subtracted, as keras.applications has it for ResNet and VGG.
    image_shape: `(H, W, C)` for the sizes that the model leaves open; None:
      they stay open.

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
  is_raw = preprocessing != 'none'
  image = keras.Input(
    tuple(sizes),
    dtype='uint8' if is_raw else model.inputs[0].dtype,
    name='raw_image' if is_raw else None,
  )
  x = _preprocess(image, preprocessing) if is_raw else image
  try:
    outputs = _run_flat(model, [x], '')
  except ValueError as error:
    if image.shape == model.inputs[0].shape:
      raise  # The model's own fault, whatever the images.
    reason = str(error).strip().splitlines()[0]
    raise errors.UsageError(
      f'{model.name} does not accept batches of images of {tuple(sizes)} '
      f'({reason}): give another --image_size, or a model built with an Input '
      'of that shape and no batch_size'
    ) from error
  for y in outputs:
    if y.shape[0] is not None:
      raise errors.UsageError(
        f'{model.name} only accepts batches of {y.shape[0]}: give a model '
        'built without batch_size, whose operations accept any'
      )
  return keras.Model(
    image,
    keras.tree.pack_sequence_as(graph.outputs(model), outputs),
    name=model.name,
  )


def _preprocess(image: keras.KerasTensor, kind: str) -> keras.KerasTensor:
  """Returns raw images after a `preprocessing` of `flatten`."""
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
  # The caffe statistics are of red first; the flip to blue first comes after.
  x = layers.normalization(**catalogue.CAFFE, name=name)(image)
  return ops.flip(x, axis=-1)


def _run_flat(
  model: keras.Model, tensors: Sequence[keras.KerasTensor], prefix: str
) -> list[keras.KerasTensor]:
  """Returns a model's outputs, nested models run layer by layer.

  Args:
    model: Functional or Sequential.
    tensors: Its inputs.
    prefix: What the names of its layers begin with in the flat model.
  """

  def replace(operation):
    if _is_to_open(operation):
      return lambda *args, **kwargs: _run_flat(
        operation,
        [
          each
          for each in keras.tree.flatten((args, kwargs))
          if isinstance(each, keras.KerasTensor)
        ],
        f'{prefix}{operation.name}.',
      )
    # Names of different nested models may be equal, in a flat one they may not.
    # A layer that is shared, or was flattened before, has its prefix already.
    if prefix and not operation.name.startswith(prefix):
      operation.name = prefix + operation.name
    return operation

  return graph.run(model, tensors, replace)


def _is_to_open(operation: keras.Operation) -> bool:
  """Tells whether an operation is a model that `flatten` replaces."""
  return (
    graph.is_plain_model(operation)
    and len(getattr(operation, 'inputs', None) or ()) == 1
  )


@contextlib.contextmanager
def keeping_names(model: keras.Model) -> Iterator[None]:
  """Undoes at its end what `flatten` renames in a block.

  `flatten` gives the layers of nested models, which it shares, longer names. A
  model that its owner goes on using gets its own names back; the flat one then
  works on, but its layers are not found by their names any more.
  """
  operations = list(_nested_operations(model))
  names = [operation.name for operation in operations]
  try:
    yield
  finally:
    for operation, name in zip(operations, names, strict=True):
      operation.name = name


def _nested_operations(model: keras.Model) -> Iterator[keras.Operation]:
  for call in graph.calls(model):
    if _is_to_open(call.operation):
      for inner in graph.calls(call.operation):
        yield inner.operation
      yield from _nested_operations(call.operation)


def is_nested(model: keras.Model) -> bool:
  """Tells whether a model has nested models that `flatten` would replace."""
  return any(_is_to_open(layer) for layer in model.layers)
