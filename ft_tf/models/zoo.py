"""Networks by name, fresh, in the precision and batch norm of a run."""

import re
import sys

import keras

from ft_tf import errors
from ft_tf.models import (
  applications,
  checks,
  graph,
  heads,
  layers,
  model_files,
  origins,
  pretrained,
  rebuilding,
  resnet,
  standard,
  vgg,
  wide_resnet,
)

NAMES = (
  'resnet<6n+2>, such as resnet20 or resnet56, with the suffix x<width> for '
  'other channel numbers (resnet8x0.25) and -parameter-free for shortcuts '
  'without weights; wrn-<6n+4>-<width>, such as wrn-16-2; vgg13; resnet18 and '
  'resnet34, as for ImageNet; or one of keras.applications in lower case: '
  'mobilenet, mobilenetv2, mobilenetv3small and mobilenetv3large, these with '
  'the suffix x<width> up to 10 (mobilenetv2x0.35), efficientnetb0, '
  'efficientnetv2b0, resnet50, resnet50v2, densenet121, convnexttiny, '
  'inceptionv3, inceptionresnetv2, nasnetmobile, vgg16, xception and their '
  'larger variants'
)

# What a model that is to be trained can do about other classes.
NEW_HEAD_FIX = (
  'give the data set it was trained on, or --new_head to train it with a fresh '
  'last layer'
)

_RESNET = re.compile(
  r'resnet(\d{1,4})(?:x(\d{1,4}(?:\.\d+)?))?(-parameter-free)?'
)
_WIDE_RESNET = re.compile(r'wrn-(\d{1,4})-(\d{1,4})')
_DEEPEST = 1202  # ResNet-1202, the deepest of its paper
_MOST_WEIGHTS = 2**29  # of float32 in 2 GiB, which no .tflite file exceeds


def build(
  name: str,
  spec: layers.Spec,
  *,
  weights: str = '',
  preprocessing: str = 'none',
  new_head: bool = False,
  resized: bool = True,
  role: str = 'student',
) -> keras.Model:
  """Returns a network with fresh weights, or with those that are given.

  Args:
    name: As in `NAMES`, or a `.keras` file, whose weights training starts from;
      its layers get the precision and the batch norm of `spec`, and its batch
      norm a momentum of `layers.MOMENTUM` where it has more.
    spec: The data's shape and statistics.
    weights: A file of weights for a network of keras.applications, see
      `pretrained.build`; '': none.
    preprocessing: The preprocessing that the file's weights were trained with,
      see `pretrained.build`; or a `.keras` file of other classes.
    new_head: Whether the last layer of a `.keras` file is replaced by a fresh
      one if it has other classes.
    resized: Whether a `.keras` file that takes images of one size alone is
      built again for the images of `spec`.
    role: What the network is, 'teacher' or 'student', whose flags messages
      name.

  Returns:
    A model from raw images `[B, H, W, C]` uint8 to logits `[B, classes]`
    float32. In our own networks the layers `group1`, `group2`, ... are the
    named features.

  Raises:
    UsageError: there is no such network, or it does not fit the images.
  """
  check_weights(name, weights, role)
  if model_files.is_file(name):
    return _build_from_file(name, spec, preprocessing, new_head, resized, role)
  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy(spec.precision)
  try:
    if weights:
      return pretrained.build(name, spec, weights, preprocessing, role)
    return _build_by_name(name, spec)
  finally:
    keras.config.set_dtype_policy(before)


def check_weights(name: str, weights: str, role: str) -> None:
  """Raises `UsageError` if weights are given beside a model that has its own.

  Args:
    name: As of `build`, like the others.
    weights: The file, or ''.
    role: Whose flags the message names.
  """
  if weights and model_files.is_teacher_file(name):
    raise errors.UsageError(
      f'--{role}={name} has its weights: leave out --{role}_weights, or give '
      'the name of a network'
    )


def thaw(model: keras.Model) -> None:
  """Makes all layers trainable; Keras's setter of a model may reach none."""
  for layer in graph.flat_layers(model):
    layer.trainable = True


def _build_from_file(path, spec, preprocessing, new_head, resized, role):
  model, what = model_files.load(path), f'--{role}={path}'
  if not model.trainable_weights:  # It was kept as a finished model.
    thaw(model)
  size_flags = {
    'teacher': '--image_size and --channels',
    'student': '--student_image_size (at most --image_size: its own, or that '
    'of the images to train it for them) and --channels',
  }[role]
  checks.check_classifier(model, what)
  if resized:
    model = _at_size(model, spec.image_shape, what)
  checks.check_fits_images(
    model, what, image_shape=spec.image_shape, size_flags=size_flags
  )
  checks.check_not_quantized(model, what)
  fresh = []
  if new_head and not checks.has_classes(model, spec.classes):
    model = standard.flatten(model, preprocessing, spec.image_shape)
    model = heads.with_new_head(model, spec.classes, what)
    fresh = [heads.last_layer(model).name]
  checks.check_fits(
    model,
    what,
    image_shape=spec.image_shape,
    label_names=[''] * spec.classes,
    classes_fix=NEW_HEAD_FIX,
  )
  model = standard.standardize(model, image_shape=spec.image_shape)[0]
  model = _as_specified(model, spec, what)
  origins.note(model, fresh)
  return model


def _at_size(model, image_shape, what):
  """Returns a file's model for images of another size than its own."""
  image = model.inputs[0]
  own, size = image.shape[1:3], image_shape[:2]
  if image.shape[-1] != image_shape[-1] or None in own or own == size:
    return model  # If it does not fit, the check after this says why.
  if standard.is_nested(model):
    model = standard.flatten(model)
  try:
    return rebuilding.rebuild(
      model,
      image=keras.Input(
        (*size, image.shape[-1]), dtype=image.dtype, name=image.name
      ),
    )
  except Exception as error:  # A user's own code may raise anything.
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise errors.UsageError(
      f'{what} takes images of {own[0]}x{own[1]}, and cannot be rebuilt for '
      f'{size[0]}x{size[1]} ({reason[0]}): give images of its own size'
    ) from error


def _as_specified(model, spec, what):
  """Returns a file's model in the precision and with the batch norm of a run.

  Raises:
    UsageError: a layer of a user's own cannot be built again.
  """
  norms = [
    layer
    for layer in graph.flat_layers(model)
    if isinstance(layer, keras.layers.BatchNormalization)
  ]
  for norm in norms:
    # By 0.99 half of the file's own statistics would be left after 64 steps.
    norm.momentum = min(norm.momentum, layers.MOMENTUM)
  if not _layers_of_other_precision(model, spec.precision) and all(
    norm.synchronized == spec.sync_batch_norm for norm in norms
  ):
    return model
  try:
    model = rebuilding.rebuild(
      model, precision=spec.precision, synchronized=spec.sync_batch_norm
    )
  except Exception as error:  # A user's own code may raise anything.
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise errors.UsageError(
      f'{what} cannot be rebuilt with --precision={spec.precision} and '
      f'--sync_batch_norm={spec.sync_batch_norm} ({reason[0]}): give a model '
      "of Keras's own layers, or the precision it was saved in"
    ) from error
  unchanged = [
    layer.name
    for layer in _layers_of_other_precision(model, spec.precision)
    if layer.weights
  ]
  if unchanged:
    print(
      f'student: {", ".join(unchanged)} do not compute in {spec.precision}, '
      'because their own configuration sets another precision',
      file=sys.stderr,
      flush=True,
    )
  return model


def _layers_of_other_precision(
  model: keras.Model, precision: str
) -> list[keras.layers.Layer]:
  """Returns the layers whose policy is another; outputs may stay float32."""
  last = {graph.producer(tensor).operation for tensor in model.outputs}
  return [
    layer
    for layer in graph.flat_layers(model)
    if layer is not model
    and not isinstance(layer, keras.layers.InputLayer)
    and layer not in last
    and layer.dtype_policy.name != precision
  ]


def _build_by_name(name, spec):
  if not name:
    raise errors.UsageError(
      'give --teacher: a trained .keras file, or a network to train, which is '
      + NAMES
    )
  model_files.check_name(name, name)
  if name == 'vgg13':
    if min(spec.image_shape[:2]) < 32:
      raise errors.UsageError(
        f'vgg13 needs images of 32x32 or more, these are {spec.image_shape}: '
        'give a resnet or wrn, or --image_size=32'
      )
    return vgg.vgg13(spec)
  if name in ('resnet18', 'resnet34'):
    return resnet.imagenet_resnet(spec, depth=int(name[-2:]))
  if applications.is_name(name):
    return applications.build(name, spec)[0]
  match = _RESNET.fullmatch(name)
  # Where Keras has a ResNet of that depth, the depth means Keras's.
  if match and not applications.is_name(f'resnet{match[1]}'):
    depth, width = int(match[1]), float(match[2] or 1)
    if depth >= 8 and depth % 6 == 2 and round(16 * width) >= 1:
      _check_size(name, depth, width)
      return resnet.resnet(
        spec, depth=depth, width=width, projection=match[3] is None
      )
  match = _WIDE_RESNET.fullmatch(name)
  if match:
    depth, width = int(match[1]), int(match[2])
    if depth >= 10 and depth % 6 == 4 and width >= 1:
      _check_size(name, depth, width)
      return wide_resnet.wide_resnet(spec, depth=depth, width=width)
  raise errors.UsageError(f'unknown network {name!r}: give {NAMES}')


def _check_size(name: str, depth: int, width: float) -> None:
  """Refuses a ResNet that would only fill the memory."""
  # All groups have as many layers, of 16, 32 and 64 channels times the width.
  weights = 9 * (16 * width) ** 2 * (1 + 4 + 16) * depth / 3
  if depth > _DEEPEST or weights > _MOST_WEIGHTS:
    raise errors.UsageError(
      f'{name} has a depth of {depth} and about {weights:,.0f} weights: give '
      f'at most {_DEEPEST:,} and {_MOST_WEIGHTS:,}, which fill the 2 GiB of a '
      '.tflite file'
    )
